//! `fathom serve`: an HTTP server and a chat page over one model.

mod accounts;
mod room;

use super::Machine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::opened::Opened;
use crate::output::to_stderr;
use crate::sizes::{format_bytes, parse_bytes};
use crate::talk::computing::Computing;
use crate::talk::dialect::{Dialect, Layout, Template};
use crate::talk::settings::{self, max_tokens, temperature, top_p};
use crate::talk::source::Missing;
use crate::terminal::Style;
use fathom_engine::service::{Service, ServiceSettings};
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::Model;
use fathom_serve::app::{App, Log, Settings};
use fathom_serve::auth::Keys;
use fathom_serve::grammar::Grammars;
use fathom_serve::served::{Defaults, ExpertsShape, Served, Thinking};
use room::{Room, block_files, fingerprint};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, a `.gguf` file, a Hugging Face repository (fetched if it is not here), or a run directory [default: the newest run under `runs/`]
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,

    /// What clients call the model [default: its directory, file or repository]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Most tokens of prompt and answer together [default: what the model has positions for]
    #[arg(long, value_name = "N", value_parser = max_tokens)]
    context: Option<usize>,

    /// Requests that are answered at the same time; others wait
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,

    /// Requests that wait at most; further ones are told when to come again
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: u16,

    /// Memory for keys and values of running and recent conversations [default: half of what is free, as much as `--parallel` conversations can fill]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    cache_memory: Option<u64>,

    /// Keep keys and values of recent prompts on disk too, at most this much
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    cache_disk: Option<u64>,

    /// Where they are kept [default: `fathom/prefixes` in the user's cache folder]
    #[arg(long, value_name = "DIR", requires = "cache_disk")]
    cache_dir: Option<PathBuf>,

    /// Keys, usage and the page's conversations [default: `fathom/serve.sqlite` in the user's data folder]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    /// Accept only requests with one of the keys in this file, one per line; FATHOM_API_KEY and `fathom key add` name more
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Let pages of this origin, such as https://example.org, call the API; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,

    /// Another name by which clients may call this machine; `localhost` and addresses are known
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// Write no line per request to stderr
    #[arg(long, conflicts_with = "log_prompts")]
    quiet: bool,

    /// Write prompts to stderr too; without it no word of a conversation is logged
    #[arg(long)]
    log_prompts: bool,

    /// Randomness where a request states none [default: what the model states, else 0.6]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    temperature: Option<f32>,

    /// Probability mass kept where a request states none [default: what the model states, else 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = top_p)]
    top_p: Option<f32>,

    /// Longest answer where a request states none, in tokens [default: what the model states or has room for]
    #[arg(long, value_name = "N", value_parser = max_tokens)]
    max_tokens: Option<usize>,

    /// Use this chat template instead of the model's own
    #[arg(long, value_name = "NAME")]
    template: Option<Template>,

    #[command(flatten)]
    computing: Computing,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom serve                                    the newest run under `runs/`
  fathom serve deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --quant q8_0
  fathom serve model.gguf --port 8080 --cache-disk 8GiB
  fathom key add alice && fathom serve MODEL --host 0.0.0.0
  curl http://127.0.0.1:8000/v1/chat/completions -d '{\"model\": \"deepseek-reasoner\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'

The chat page is at http://127.0.0.1:8000/. Ctrl-C ends the server after the answers in progress.";

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    // What can be refused is refused before a large model is loaded.
    let listener = listen(args.host, args.port)?;
    let keys = accounts::keys(args.api_key_file.as_deref())?;
    let store = accounts::store(args.store.clone())?;
    let opened = Opened::find(args.model.as_deref(), Missing::Fetch)?;
    let tokenizer = opened.tokenizer()?;
    let layout = match args.template {
        Some(template) => Layout::Chat(template.into()),
        None => Layout::of(&opened, &tokenizer)?,
    };
    let (settings, stop_ids) = args.defaults().over_defaults_of(opened.path())?;
    let dialect = Dialect::of(&opened, tokenizer, layout, stop_ids)?;
    let how = args.computing.for_model(&opened)?;
    let (model, cache) = how.load(&opened)?;

    let room = Room::of(&args, &model.config, cache)?;
    let served = served(&args, &opened, &model, dialect, &settings, room);
    let heading = heading(&opened, &model, room);
    let blocks = ServiceSettings {
        max_running: args.parallel.into(),
        max_waiting: args.queue.into(),
        drafting: how.drafting,
        store: block_files(&args)?,
        fingerprint: fingerprint(&args, &opened, cache),
        ..ServiceSettings::new(room.n_blocks)
    };
    let service = Service::start(model, cache, blocks)?;
    let grammars = Grammars::new(&served.tokenizer, served.vocab_limit, &served.stop_ids)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let app = App::new(served, Arc::new(service), grammars, Arc::new(store), args.settings(keys));
    to_stderr(&heading);
    to_stderr(&addresses(&listener, &args)?);
    let interrupt = Interrupt::listen();
    fathom_serve::server::serve(listener, Arc::new(app), move || interrupt.is_set())
        .map_err(|error| Failure::Failed(format!("the server ended: {error}")))?;
    to_stderr("stopped\n");
    Ok(())
}

impl Args {
    /// What is used where a request says nothing.
    fn defaults(&self) -> settings::Typed {
        settings::Typed::for_requests(self.temperature, self.top_p, self.max_tokens)
    }

    fn settings(&self, keys: Keys) -> Settings {
        Settings {
            origins: self.cors.clone(),
            hosts: self.allow_host.clone(),
            keys,
            log: (!self.quiet).then(|| -> Log { Box::new(|line| to_stderr(&format!("{line}\n"))) }),
            log_prompts: self.log_prompts,
            ..Settings::default()
        }
    }
}

/// Takes the port, so that a second server is refused before it loads anything.
fn listen(host: IpAddr, port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).map_err(|error| {
        let what = format!("cannot listen on {address}: {error}");
        match error.kind() {
            ErrorKind::AddrInUse => {
                Failure::hinted(what, "another server runs there; `--port 0` takes a free port")
            }
            ErrorKind::PermissionDenied => {
                Failure::hinted(what, "ports below 1024 belong to the system; take a higher one")
            }
            _ => Failure::Failed(what),
        }
    })
}

fn served(
    args: &Args,
    opened: &Opened,
    model: &Model,
    dialect: Dialect,
    settings: &settings::Settings,
    room: Room,
) -> Served {
    let vocab_limit = dialect.tokenizer.vocab_size();
    let asks = dialect.renderer.as_ref().is_some_and(|renderer| renderer.asks_thinking());
    let thinking = match (asks, dialect.opens_thinking) {
        (true, _) => Thinking::Switch,
        (false, true) => Thinking::Always,
        (false, false) => Thinking::Never,
    };
    let shape = |(layers, n_routed_experts, num_experts_per_tok)| ExpertsShape {
        layers,
        n_routed_experts,
        num_experts_per_tok,
    };
    Served {
        name: args.name.clone().unwrap_or_else(|| short_name(opened.label())),
        tokenizer: dialect.tokenizer,
        renderer: dialect.renderer,
        thinking,
        stop_ids: dialect.stop_ids,
        bos: dialect.bos,
        vocab_limit,
        context_tokens: room.context_tokens,
        defaults: Defaults {
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k,
            min_p: settings.min_p,
            repetition_penalty: settings.repetition_penalty,
            max_tokens: settings.max_tokens,
        },
        experts: model.experts_shape().map(shape),
    }
}

/// The last part of a path or repository, without what tells the kind of file.
fn short_name(label: &str) -> String {
    let label = label.split(" · ").next().unwrap_or(label).trim_end_matches('/');
    let last = label.rsplit('/').next().unwrap_or(label);
    last.strip_suffix(".gguf").unwrap_or(last).to_owned()
}

fn heading(opened: &Opened, model: &Model, room: Room) -> String {
    let line = format!(
        "{} · {:.1} M parameters · up to {} tokens a conversation · {} of cache for {} tokens",
        opened.label(),
        model.n_parameters() as f64 / 1e6,
        room.context_tokens,
        format_bytes(room.bytes),
        room.n_blocks * BLOCK_TOKENS,
    );
    format!("{}\n", Style::of_stderr().dim(&line))
}

/// Where people and programs find the server.
fn addresses(listener: &TcpListener, args: &Args) -> Result<String, Failure> {
    let address = listener
        .local_addr()
        .map_err(|error| Failure::Failed(format!("the address of the server: {error}")))?;
    let host = match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let url = format!("http://{host}:{}", address.port());
    let mut text = format!("chat page  {url}/\nAPI        {url}/v1\n");
    if !args.host.is_loopback() && args.api_key_file.is_none() {
        text.push_str(
            "warning: other machines can reach this server\n\
             hint: `fathom key add NAME` makes a key, and from then on nobody is answered without one\n",
        );
    }
    text.push_str("Ctrl-C stops the server\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_the_last_part_of_where_it_lies() {
        for (label, name) in [
            ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek-R1-Distill-Qwen-1.5B"),
            ("runs/r1-tiny · r1", "r1-tiny"),
            ("models/v2-lite-q4_k.gguf", "v2-lite-q4_k"),
            ("some/folder/", "folder"),
        ] {
            assert_eq!(short_name(label), name);
        }
    }

    #[test]
    fn a_port_in_use_is_refused_with_advice() {
        let first = listen("127.0.0.1".parse().unwrap(), 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let Err(Failure::Failed(text)) = listen("127.0.0.1".parse().unwrap(), port) else {
            panic!("two servers on one port")
        };
        assert!(text.contains("--port 0"), "{text}");
    }
}
