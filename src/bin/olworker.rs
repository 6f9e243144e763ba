fn main() -> std::process::ExitCode {
    olworker::cli::olworker()
}
