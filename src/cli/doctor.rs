//! `firstline doctor`: what is fine, what is not, what to do.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;

use super::catalog::{self, Catalog};
use super::{adapters, memory, models, show};
use crate::api::ModelFile;
use crate::compute::native::verify_packed_file;
use crate::config::Settings;
use crate::kb::{Pack, pack};
use crate::model::{Gguf, PackedCache};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Do not compute the SHA-256 of model files (quick)
    #[arg(long)]
    quick: bool,
    /// Also load everything, and say what the resident memory is made of
    #[arg(long)]
    memory: bool,
}

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    state: State,
    what: &'static str,
    text: String,
}

fn ok(what: &'static str, text: impl Into<String>) -> Finding {
    Finding { state: State::Ok, what, text: text.into() }
}

fn warn(what: &'static str, text: impl Into<String>) -> Finding {
    Finding { state: State::Warn, what, text: text.into() }
}

fn fail(what: &'static str, text: impl Into<String>) -> Finding {
    Finding { state: State::Fail, what, text: text.into() }
}

pub fn run(settings: anyhow::Result<Settings>, args: &DoctorArgs) -> ExitCode {
    let mut findings = vec![processor(), threads()];
    match &settings {
        Err(error) => findings.push(fail("settings", format!("{error:#}"))),
        Ok(settings) => {
            findings.push(ok("settings", "valid"));
            findings.push(room(settings));
            findings.push(gpu(&settings.engine.device));
            findings.push(model(settings, "chat model", catalog::resolve_chat(&settings.models), args.quick));
            findings.push(model(settings, "embed model", catalog::resolve_embed(&settings.models), args.quick));
            findings.extend(packed_weights(settings, args.quick));
            findings.push(knowledge(settings));
            findings.extend(operators_adapters(settings));
            findings.push(state_dir(&settings.store.state_dir));
            findings.push(disk(&settings.store.state_dir));
            findings.push(index(settings));
            findings.push(port(settings));
            findings.push(keys(settings));
        }
    }
    for finding in &findings {
        let state = match finding.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        println!("{state}  {:<12} {}", finding.what, finding.text.replace('\n', "\n                   "));
    }
    let failed = findings.iter().filter(|finding| finding.state == State::Fail).count();
    let warned = findings.iter().filter(|finding| finding.state == State::Warn).count();
    println!("\n{}, {}", show::count(failed, "fault"), show::count(warned, "warning"));
    if let (true, Ok(settings)) = (args.memory, &settings)
        && let Err(error) = memory::print(settings)
    {
        eprintln!("firstline: {error:#}");
        return ExitCode::FAILURE;
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn processor() -> Finding {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processor_finding(&info)
}

/// From the text of `/proc/cpuinfo`.
fn processor_finding(info: &str) -> Finding {
    let field = |names: &[&str]| {
        let line = info.lines().find(|line| names.iter().any(|name| line.starts_with(name)));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_string())
    };
    let name = field(&["model name", "Model"]).unwrap_or_else(|| std::env::consts::ARCH.to_string());
    let flags = field(&["flags", "Features"]).unwrap_or_default();
    let known = [
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_int8",
        "asimd",
        "asimddp",
        "i8mm",
    ];
    let has: Vec<&str> = known.into_iter().filter(|flag| flags.split_whitespace().any(|have| have == *flag)).collect();
    let text = format!("{name}: {}", if has.is_empty() { "no vector extensions known".into() } else { has.join(" ") });
    match has.contains(&"avx2") || has.contains(&"asimd") {
        true => ok("processor", text),
        false => warn("processor", text + "\nwithout AVX2 or NEON answers are very slow; use a newer machine"),
    }
}

fn threads() -> Finding {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => warn("threads", "1: answers are slow; give the process 2 or more CPUs"),
        n => ok("threads", n.to_string()),
    }
}

fn room(settings: &Settings) -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
    };
    let (Some(all), Some(free)) = (kib("MemTotal"), kib("MemAvailable")) else {
        return warn("memory", "not known on this system");
    };
    memory_finding(all / 1024, free / 1024, needed_mib(settings))
}

/// Memory that the models in use want, in MiB.
fn needed_mib(settings: &Settings) -> u64 {
    let catalog = Catalog::load(settings.models.catalog.as_deref());
    let of =
        |name: &str| catalog.as_ref().ok().and_then(|catalog| catalog.find(name)).map_or(0, |model| model.memory_mib);
    of(&settings.models.chat) + of(&settings.models.embed)
}

fn memory_finding(all: u64, free: u64, needed: u64) -> Finding {
    let text = format!("{} free of {}, the models want about {}", show::mib(free), show::mib(all), show::mib(needed));
    if needed > all {
        fail("memory", text + "\nchoose a smaller model (firstline models list) or lower engine.kv_mib")
    } else if needed > free {
        warn("memory", text + "\nend other programs, choose a smaller model or lower engine.kv_mib")
    } else {
        ok("memory", text)
    }
}

fn gpu(device: &str) -> Finding {
    let card = Path::new("/proc/driver/nvidia/version").exists();
    match (cfg!(feature = "cuda"), card) {
        (true, true) => ok("gpu", "built with CUDA, an NVIDIA driver is there"),
        (true, false) if device.starts_with("cuda") => fail(
            "gpu",
            format!("engine.device = \"{device}\", but there is no NVIDIA driver: set it to `auto` or `cpu`"),
        ),
        (true, false) => warn("gpu", "built with CUDA, but there is no NVIDIA driver; the CPU is used"),
        (false, _) if device.starts_with("cuda") => fail(
            "gpu",
            format!("engine.device = \"{device}\", but this program was built without CUDA: scripts/build-cuda"),
        ),
        (false, true) => warn("gpu", "there is an NVIDIA driver, but this build has no CUDA; the CPU is used"),
        (false, false) => ok("gpu", "none; the CPU is used"),
    }
}

fn model(
    settings: &Settings,
    what: &'static str,
    found: Result<ModelFile, catalog::CatalogError>,
    quick: bool,
) -> Finding {
    let file = match found {
        Ok(file) => file,
        Err(error) => return fail(what, error.to_string()),
    };
    let text = format!("{} ({}), languages {}", file.id, file.path.display(), file.languages.join(" "));
    let catalog = Catalog::load(settings.models.catalog.as_deref()).ok();
    let Some(model) = catalog.as_ref().and_then(|catalog| catalog.find(&file.id)) else {
        return ok(what, text + ", not of the catalog");
    };
    if quick {
        return ok(what, text);
    }
    let folder = if file.path.is_file() { file.path.parent().unwrap_or(Path::new(".")) } else { &file.path };
    match models::faults(model, folder).as_slice() {
        [] => ok(what, text + ", SHA-256 good"),
        faults if faults.iter().all(|fault| fault.contains("no hash to compare")) => warn(what, faults.join("\n")),
        faults => fail(what, faults.join("\n")),
    }
}

/// The chat model's packed weights, which the last start has left for the next; nothing where there is no chat model.
fn packed_weights(settings: &Settings, quick: bool) -> Option<Finding> {
    let model = catalog::resolve_chat(&settings.models).ok()?;
    let Some(cache) = PackedCache::new(settings) else {
        return Some(ok("packed", "weights are packed at every start (engine.packed_mib = 0)"));
    };
    let path = cache.path(&Gguf::open(&model.path).ok()?);
    let limit = settings.engine.packed_mib as u64;
    let text = match std::fs::metadata(&path) {
        Err(_) => {
            let folder = cache.folder().display();
            format!(
                "no weights of this model in {folder} yet; the next start packs them and may leave {}",
                show::mib(limit)
            )
        }
        Ok(file) => format!("{}, {} of at most {}", path.display(), show::mib(file.len() >> 20), show::mib(limit)),
    };
    match if quick || !path.exists() { Ok(()) } else { verify_packed_file(&path) } {
        Ok(()) => Some(ok("packed", text)),
        Err(reason) => {
            Some(warn("packed", format!("{text}: {reason}\nremove the file; the next start packs the weights anew")))
        }
    }
}

fn knowledge(settings: &Settings) -> Finding {
    let pack = Pack::read(&settings.knowledge);
    let fatal = pack.faults.iter().filter(|fault| fault.fatal).count();
    let text = format!(
        "{}: {} articles, {} FAQ entries, {} operators",
        pack.dir.display(),
        pack.articles.len(),
        pack.faq.len(),
        pack.operators.len()
    );
    match (fatal, pack.faults.len()) {
        (0, 0) => ok("pack", text),
        (0, _) => warn("pack", format!("{text}\n{}", pack::list(&pack.faults))),
        _ => fail("pack", format!("{text}\n{}", pack::list(&pack.faults))),
    }
}

/// One finding for each operator that names a LoRA adapter.
fn operators_adapters(settings: &Settings) -> Vec<Finding> {
    let Ok(chat) = catalog::resolve_chat(&settings.models) else { return Vec::new() };
    let told = adapters::of_operators(settings, &Pack::read(&settings.knowledge), &chat.path).into_iter();
    let finding = |(operator, told)| match told {
        Ok(text) => ok("adapter", format!("{operator}: {text}")),
        Err(reason) => fail("adapter", format!("{operator}: {reason}")),
    };
    told.map(finding).collect()
}

fn state_dir(folder: &Path) -> Finding {
    let probe = folder.join(".doctor");
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, ""))
        .and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => ok("state", format!("{} can be written", folder.display())),
        Err(error) => {
            fail("state", format!("{} cannot be written ({error}); choose another with --state", folder.display()))
        }
    }
}

fn disk(folder: &Path) -> Finding {
    // POSIX form: one line per file system, kibibytes, the fourth column is free.
    let output = Command::new("df").arg("-Pk").arg(folder).output();
    let free = output.ok().and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()
    });
    match free.map(|kib| kib / 1024) {
        None => warn("disk", "free space is not known"),
        Some(free) if free < 200 => {
            fail("disk", format!("{} free; the index and the database need room", show::mib(free)))
        }
        Some(free) if free < 2048 => warn("disk", format!("{} free", show::mib(free))),
        Some(free) => ok("disk", format!("{} free", show::mib(free))),
    }
}

fn index(settings: &Settings) -> Finding {
    let folder = settings.store.state_dir.join("index");
    match folder.is_dir() {
        true => {
            ok("index", format!("{} is there; changed files are embedded anew at the next start", folder.display()))
        }
        false => warn("index", "not built yet; `firstline index` builds it, else the first start does"),
    }
}

fn port(settings: &Settings) -> Finding {
    let (host, port) = (settings.server.host.trim_matches(['[', ']']), settings.server.port);
    match TcpListener::bind((host, port)) {
        Ok(_) => ok("port", format!("{host}:{port} is free")),
        Err(error) => fail(
            "port",
            format!("{host}:{port}: {error}; choose another with `firstline serve --port`, or end what listens there"),
        ),
    }
}

fn keys(settings: &Settings) -> Finding {
    let server = &settings.server;
    match (server.keys.len(), server.is_loopback(), server.allow_open) {
        (0, true, _) => ok("keys", "none; only this machine can ask"),
        (0, false, false) => fail("keys", format!("none, but server.host is {}; add [[server.keys]]", server.host)),
        (0, false, true) => warn("keys", format!("none, and {} is open to whoever reaches it", server.host)),
        (n, ..) => ok("keys", n.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_without_vector_extensions_is_a_warning() {
        let finding = processor_finding("model name : Old One\nflags : fpu sse2\n");
        assert_eq!(finding.state, State::Warn);
        assert!(finding.text.contains("Old One"));
        let finding = processor_finding("model name : New One\nflags : fpu avx2 avx512_vnni fma\n");
        assert_eq!(finding.state, State::Ok);
        assert!(finding.text.contains("avx512_vnni"));
    }

    #[test]
    fn a_model_that_can_never_fit_fails_and_one_that_does_not_fit_now_warns() {
        assert_eq!(memory_finding(1000, 900, 2000).state, State::Fail);
        assert_eq!(memory_finding(4000, 900, 2000).state, State::Warn);
        assert_eq!(memory_finding(4000, 3000, 2000).state, State::Ok);
    }

    #[test]
    fn an_open_server_without_keys_fails() {
        let mut settings = Settings::default();
        assert_eq!(keys(&settings).state, State::Ok);
        settings.server.host = "0.0.0.0".into();
        assert_eq!(keys(&settings).state, State::Fail);
    }

    #[test]
    fn a_port_that_is_taken_fails_and_says_what_to_do() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut settings = Settings::default();
        settings.server.port = taken.local_addr().unwrap().port();
        let finding = port(&settings);
        assert_eq!(finding.state, State::Fail);
        assert!(finding.text.contains("--port"));
    }
}
