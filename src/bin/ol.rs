fn main() -> std::process::ExitCode {
    olworker::cli::ol()
}
