//! `fathom pull`: fetches a model into the cache that other programs share.

use crate::failure::Failure;
use crate::fetching::{fetch, pull_command};
use crate::output::{json_to_stdout, to_stdout};
use fathom_hub::{ModelName, Request, Revision, Settings};
use serde_json::json;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A repository such as org/name, org/name@revision or org/name:Q4_K_M
    #[arg(value_name = "REPO")]
    repo: String,

    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,

    /// Fetch the files that match, in place of those of a model; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Leave out the files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Print one JSON object: repo, revision, commit, dir, files, bytes
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  fathom pull deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B
  fathom pull org/name-GGUF:Q4_K_M            one GGUF of several, with all its parts
  fathom pull org/name --include 'tokenizer*'

Prints the folder of the model. Interrupted, the same command goes on where it was. Files are
checked by their hashes and shared with Python's huggingface_hub. Followed are HF_ENDPOINT, HF_HOME,
HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE.";

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let request = request(&args)?;
    let settings = Settings::from_env()?;
    let pulled = fetch(&settings, &request, &pull_command(&request))?;
    if !args.json {
        return to_stdout(&format!("{}\n", pulled.dir.display()));
    }
    let files: Vec<_> = pulled
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.n_bytes }))
        .collect();
    json_to_stdout(&json!({
        "repo": request.repo.as_str(),
        "revision": request.revision.as_str(),
        "commit": pulled.commit,
        "dir": pulled.dir.display().to_string(),
        "files": files,
        "bytes_downloaded": pulled.bytes_downloaded,
        "bytes_reused": pulled.bytes_reused,
    }))
}

fn request(args: &Args) -> Result<Request, Failure> {
    let mut request = Request::from(ModelName::parse(&args.repo)?);
    if let Some(revision) = &args.revision {
        if request.revision != Revision::default() {
            return Err(Failure::Usage(
                "the revision is given twice, by `@` and --revision".into(),
            ));
        }
        request.revision = Revision::new(revision)?;
    }
    if request.choice.is_some() && !args.include.is_empty() {
        return Err(Failure::Usage("--include has no effect beside a choice after `:`".into()));
    }
    request.include = args.include.clone();
    request.exclude = args.exclude.clone();
    Ok(request)
}
