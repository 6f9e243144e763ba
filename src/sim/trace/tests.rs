//! What readers of traces must read, and must refuse.

use super::*;
use std::io::Write;

/// A file or directory of its own for each test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn directory(name: &str, files: &[(&str, String)]) -> Self {
        let path = std::env::temp_dir().join(format!("ol-trace-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        for (file, content) in files {
            std::fs::write(path.join(file), content).unwrap();
        }
        Self(path)
    }

    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("ol-trace-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn read(name: &str, content: &[u8]) -> Result<(Header, Vec<Arrival>), String> {
    let file = Scratch::new(name, content);
    let mut reader = open(&file.0).map_err(|error| error.to_string())?;
    let arrivals = reader.read_to_end().map_err(|error| error.to_string())?;
    Ok((reader.header().clone(), arrivals))
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

const GOOD: &str = r#"{"name": "x", "functions": [["a", 10, 20.5, 5], ["b", 1, 2, 2]],
        "mems": [1], "events": [[0, 1], [0, 0], [7.25, 1]], "end": {}}"#;

#[test]
fn the_order_of_keys_and_compression_change_nothing() {
    let turned = r#"{"events": [[0, 1], [0, 0], [7.25, 1]],
            "functions": [["a", 10, 20.5, 5], ["b", 1, 2, 2]]}"#;
    let plain = read("plain", GOOD.as_bytes()).unwrap();
    assert_eq!(plain.0.functions[0], Function::plain("a", 10.0, 20.5, 5.0));
    assert_eq!(
        plain.1[2],
        Arrival {
            t_ms: 7.25,
            function: 1
        }
    );
    assert_eq!(read("turned", turned.as_bytes()).unwrap(), plain);
    assert_eq!(read("gzip", &gzip(GOOD.as_bytes())).unwrap(), plain);
    assert_eq!(
        read("gzip-turned", &gzip(turned.as_bytes())).unwrap(),
        plain
    );
}

#[test]
fn bad_traces_are_refused_with_line_and_reason() {
    let functions = r#"{"functions": [["a", 10, 20, 5]], "events": ["#;
    for (name, tail, reason) in [
        (
            "unsorted",
            "\n[5, 0],\n[4, 0]]}",
            "line 3: call 2 at 4 ms is earlier",
        ),
        (
            "negative",
            "\n[-5, 0]]}",
            "line 2: call 1: the time -5 ms is negative",
        ),
        ("nan", "\n[NaN, 0]]}", "line 2: NaN is no number"),
        ("infinite", "\n[1e999, 0]]}", "line 2: `1e999` is no finite"),
        (
            "late",
            "\n[1e300, 0]]}",
            "line 2: call 1: the time 1e300 ms is beyond",
        ),
        (
            "index",
            "\n[5, 1]]}",
            "line 2: call 1: there is no function 1",
        ),
        ("fraction", "[5, 0.5]]}", "line 1: `0.5` is no index"),
        ("below", "[5, -1]]}", "line 1: `-1` is no index"),
        ("cut", "[5, 0]", "line 1: the file ends where"),
        ("open", "[5, 0]]", "line 1: the file ends where"),
        ("pair", "[5]]}", "line 1: found `]` where `,`"),
        ("tail", "]} 7", "line 1: something follows"),
    ] {
        let error = read(name, format!("{functions}{tail}").as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{name}: {error}");
    }
    for (name, whole, reason) in [
        ("empty", "", "the file ends"),
        ("lone", r#"{"functions": []}"#, "no `events` list"),
        ("bare", r#"{"events": []}"#, "no `functions` list"),
        (
            "light",
            r#"{"functions": [["a", 0, 1, 1]], "events": []}"#,
            "0 MB of memory",
        ),
        (
            "quick",
            r#"{"functions": [["a", 1, -1, 1]], "events": []}"#,
            "cold run takes -1 ms",
        ),
        (
            "vast",
            r#"{"functions": [["a", 1e300, 1, 1]], "events": []}"#,
            "1e300 MB of memory",
        ),
        (
            "endless",
            r#"{"functions": [["a", 1, 1, 1e200]], "events": []}"#,
            "warm run takes 1e200 ms",
        ),
    ] {
        let error = read(name, whole.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn a_trace_without_calls_is_refused() {
    let plain = "{\"functions\": [[\"a\", 10, 20, 5]],\n\"events\": []}";
    let recorded =
        "{\"event\": \"function\", \"name\": \"a\", \"packages\": [], \"imports\": []}\n";
    let azure = "app,func,end_timestamp,duration\n";
    for (name, content, wanted) in [
        (
            "no-calls-plain",
            plain,
            "line 2: the trace ends without a single call",
        ),
        (
            "no-calls-recorded",
            recorded,
            "the trace ends without a single call",
        ),
        (
            "no-calls-azure",
            azure,
            "the trace ends without a single call",
        ),
    ] {
        let error = read(name, content.as_bytes()).unwrap_err();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn a_truncated_gzip_stream_is_refused() {
    let whole = gzip(GOOD.as_bytes());
    for len in [3, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let error = read("truncated", &whole[..len]).unwrap_err();
        assert!(
            error.contains("gzip stream ends in the middle"),
            "{len}: {error}"
        );
    }
}

const RECORDED: &str = r#"
{"event": "package", "name": "six==1.0", "top": ["six"], "import_ms": 1.5, "mem_mb": 0.1}
{"event": "function", "name": "b", "packages": ["six==1.0"], "imports": ["six"]}
{"t": 2.5, "event": "invocation", "function": "a", "start": "warm", "ms": 4, "mem_mb": 20}
{"t": 0.25, "event":"invocation","function":"b","start":"fresh","cold_ms":100,"ms":7,"mem_mb":30.5}
{"t": 2.0, "event": "invocation", "function": "a", "start": "zygote", "ms": 9, "cold_ms": 20}
{"event": "weather", "sun": true}
"#;

#[test]
fn a_recorded_trace_is_put_in_order_and_costs_follow_from_its_calls() {
    let (header, arrivals) = read("recorded", RECORDED.as_bytes()).unwrap();
    let [b, a] = &header.functions[..] else {
        panic!("{header:?}")
    };
    assert_eq!(
        (b.name.as_str(), b.mem_mb, b.cold_ms, b.warm_ms),
        ("b", 30.5, 107.0, 7.0)
    );
    assert_eq!(
        (a.name.as_str(), a.mem_mb, a.cold_ms, a.warm_ms),
        ("a", 20.0, 24.0, 4.0)
    );
    assert_eq!(b.packages, ["six==1.0"]);
    assert_eq!(header.packages[0].top, ["six"]);
    assert_eq!(
        header.notes,
        ["1 lines tell of other events and were left out"]
    );
    let times: Vec<(f64, u32)> = arrivals.iter().map(|a| (a.t_ms, a.function)).collect();
    assert_eq!(times, [(250.0, 0), (2_000.0, 1), (2_500.0, 1)]);
    let broken = format!("{RECORDED}{{\"event\": \"invocation\"");
    let error = read("recorded-cut", broken.as_bytes()).unwrap_err();
    assert!(error.contains("line 8: no line of a trace"), "{error}");
    let negative = RECORDED.replace("\"ms\": 9", "\"ms\": -9");
    let error = read("recorded-negative", negative.as_bytes()).unwrap_err();
    assert!(error.contains("line 6: `ms` is -9"), "{error}");
}

#[test]
fn dates_count_from_the_first_call_and_folded_calls_are_told() {
    let text = r#"
{"t":1764327600.5,"event":"invocation","function":"a","start":"warm","ms":4,"mem_mb":0}
{"t":1764327500.0,"event":"counts","function":"b","calls":7,"ms":2,"cold_ms":9,"mem_mb":3}
{"t":1764327600.25,"event":"invocation","function":"b","start":"fresh","ms":5,"cold_ms":1}
{"t":1764327601.0,"event":"lost","calls":2}
"#;
    let (header, arrivals) = read("recorded-dates", text.as_bytes()).unwrap();
    let times: Vec<(f64, u32)> = arrivals.iter().map(|a| (a.t_ms, a.function)).collect();
    assert_eq!(times, [(0.0, 1), (250.0, 0)]);
    assert!(header.notes[2].starts_with("9 calls are known by number only"));
}

fn joined(field: impl Fn(usize) -> u32) -> String {
    (1..=1_440).fold(String::new(), |text, minute| {
        text + &format!(",{}", field(minute))
    })
}

fn minutes(calls: &[(usize, u32)]) -> String {
    let count = |minute| {
        calls
            .iter()
            .find(|(at, _)| *at == minute)
            .map_or(0, |(_, count)| *count)
    };
    joined(count)
}

fn azure(name: &str, third: &str) -> Scratch {
    let numbers = joined(|minute| minute as u32);
    let header = format!("HashOwner,HashApp,HashFunction,Trigger{numbers}\n");
    let day_1 = format!(
        "{header}o,p,f,http{}\no,p,g,timer{}\no,q,h,http{}\n",
        minutes(&[(1, 2), (3, 1)]),
        minutes(&[(1, 1)]),
        minutes(&[(1, 1)]),
    );
    let day_2 = format!("{header}o,p,g,timer{}\n", minutes(&[(1_440, 1)]));
    let durations = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum\n\
            o,p,f,100,3,50,900\no,p,g,20,3,5,10\n";
    let memory = format!("HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,p,1,{third}\n");
    Scratch::directory(
        name,
        &[
            ("invocations_per_function_md.anon.d01.csv", day_1),
            ("invocations_per_function_md.anon.d02.csv", day_2),
            (
                "function_durations_percentiles.anon.d01.csv",
                durations.to_owned(),
            ),
            ("app_memory_percentiles.anon.d01.csv", memory),
        ],
    )
}

#[test]
fn azure_minutes_become_calls() {
    let directory = azure("azure", "300");
    let mut reader = open(&directory.0).unwrap();
    let arrivals = reader.read_to_end().unwrap();
    let functions = &reader.header().functions;
    assert_eq!(functions[0], Function::plain("f", 150.0, 900.0, 100.0));
    assert_eq!(functions[1], Function::plain("g", 150.0, 20.0, 20.0));
    assert!(
        reader.header().notes[0].starts_with("1 functions"),
        "{:?}",
        reader.header().notes
    );
    let minutes = |function: u32| -> Vec<f64> {
        let own = arrivals
            .iter()
            .filter(|arrival| arrival.function == function);
        own.map(|arrival| (arrival.t_ms / 60_000.0).floor())
            .collect()
    };
    assert_eq!(minutes(0), [0.0, 0.0, 2.0]);
    assert_eq!(minutes(1), [0.0, 2_879.0]);
    let first: Vec<f64> = arrivals
        .iter()
        .filter(|a| a.function == 0)
        .map(|a| a.t_ms)
        .collect();
    assert!(
        (first[1] - first[0] - 30_000.0).abs() <= 1.0,
        "as far apart as can be: {first:?}"
    );
}

#[test]
fn azure_tables_are_refused_with_file_line_and_reason() {
    let directory = azure("azure-bad", "much");
    let error = open(&directory.0).unwrap_err().to_string();
    assert!(
        error.contains("app_memory_percentiles.anon.d01.csv: line 2: `much`"),
        "{error}"
    );
}

#[test]
fn an_azure_directory_without_tables_or_calls_is_refused_with_the_remedy() {
    let empty = Scratch::directory("azure-empty", &[]);
    let error = open(&empty.0).unwrap_err();
    assert!(error.why().contains("is a directory without"), "{error}");
    assert_ne!(error.remedy(), "correct the trace", "{error}");
    let header = joined(|minute| minute as u32);
    let header = format!("HashOwner,HashApp,HashFunction,Trigger{header}\n");
    let silent = format!("{header}o,p,f,http{}\n", minutes(&[]));
    for (name, table) in [("azure-silent", silent), ("azure-no-rows", header)] {
        let directory = azure(name, "300");
        for day in ["d01", "d02"] {
            let file = format!("invocations_per_function_md.anon.{day}.csv");
            std::fs::write(directory.0.join(file), &table).unwrap();
        }
        let read = open(&directory.0).and_then(|mut reader| reader.read_to_end());
        let error = read.unwrap_err();
        assert!(
            error.why().contains("without a single call"),
            "{name}: {error}"
        );
        assert_eq!(error.path(), directory.0, "{name}");
        assert_ne!(error.remedy(), "correct the trace", "{name}: {error}");
    }
}

#[test]
fn the_trace_of_2021_is_sorted_by_arrival() {
    let text = "app,func,end_timestamp,duration\nx,f,20.5,0.5\nx,g,20.25,10\nx,f,21,0.1\n";
    let (header, arrivals) = read("azure-2021", text.as_bytes()).unwrap();
    let times: Vec<(f64, u32)> = arrivals.iter().map(|a| (a.t_ms, a.function)).collect();
    assert_eq!(times, [(0.0, 1), (9_750.0, 0), (10_650.0, 0)]);
    assert!((header.functions[0].warm_ms - 300.0).abs() < 1e-9);
}

#[test]
fn what_is_no_trace_is_refused() {
    for (name, content) in [
        ("text", "hello"),
        ("csv", "HashOwner,HashApp\n"),
        ("list", "[1]"),
    ] {
        let error = read(name, content.as_bytes()).unwrap_err();
        assert!(error.contains("no known trace begins so"), "{error}");
    }
}
