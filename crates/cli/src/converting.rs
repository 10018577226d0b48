//! Writing a model in another precision or another kind of file: what `quantize` and `export` share.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::opened::Opened;
use crate::output::{json_to_stdout, program, quoted, to_stderr, to_stdout};
use crate::sizes::format_bytes;
use crate::terminal::stderr_is_live;
use fathom_checkpoint::atomic::write_dir_atomic;
use fathom_kernels::quant::Format;
use fathom_model::config::TorchDtype;
use fathom_model::names;
use fathom_model::{Config, export_directory, export_source, gguf};
use fathom_text::{Tokenizer, TokenizerConfig};
use serde_json::json;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Largest file of a GGUF, as llama.cpp's tools split by default: never.
const MAX_GGUF_BYTES: u64 = u64::MAX;

/// Files beside the weights that a directory takes over from another one.
const COMPANIONS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",
];

/// What is asked for.
pub(crate) struct Conversion<'a> {
    /// A `.gguf` file, else a directory.
    pub(crate) out: &'a Path,
    /// None keeps what is stored.
    pub(crate) format: Option<Format>,
    /// Whether what stands at `out` may be replaced.
    pub(crate) force: bool,
    pub(crate) json: bool,
}

/// Converts, and tells what was written.
pub(crate) fn convert(opened: &Opened, conversion: &Conversion<'_>) -> Result<(), Failure> {
    let (out, start) = (conversion.out, Instant::now());
    refuse_loss(opened, conversion)?;
    let interrupt = Interrupt::listen();
    let stops = || interrupt.is_set();
    let written = if is_gguf(out) {
        to_gguf(opened, out, conversion.format, &stops)
    } else {
        to_directory(opened, out, conversion.format, &stops).map(|()| vec![out.to_owned()])
    };
    let files = match written {
        Err(_) if interrupt.is_set() => {
            return Err(Failure::Interrupted("stopped; nothing was written".into()));
        }
        written => written?,
    };
    let bytes: u64 = files.iter().map(|file| size(file)).sum();
    let paths: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if conversion.json {
        let wall_s = start.elapsed().as_secs_f64();
        return json_to_stdout(&json!({ "files": paths, "bytes": bytes, "wall_s": wall_s }));
    }
    to_stdout(&(paths.join("\n") + "\n"))?;
    let run = format!("{} run {}", program(), quoted(&paths[0]));
    to_stderr(&format!(
        "wrote {} in {:.1} s; talk to it: {run}\n",
        format_bytes(bytes),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Whether a path is to be a GGUF file.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn refuse_loss(opened: &Opened, conversion: &Conversion<'_>) -> Result<(), Failure> {
    let out = conversion.out;
    let same = |a: &Path, b: &Path| a.canonicalize().ok() == b.canonicalize().ok();
    if out.exists() && same(out, opened.path()) {
        return Err(Failure::hinted(
            format!("`{}` is the model itself", out.display()),
            "name another place; the model is read while it is written",
        ));
    }
    if out.exists() && !conversion.force {
        return Err(Failure::hinted(
            format!("`{}` exists", out.display()),
            "name another place, or replace it with `--force`",
        ));
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    let of_file = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| of_file(&entry.path())).sum(),
        Err(_) => of_file(path),
    }
}

fn to_directory(
    opened: &Opened,
    out: &Path,
    format: Option<Format>,
    stops: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    to_stderr(&format!("writing `{}` …\n", out.display()));
    write_dir_atomic(out, |dir| -> Result<(), Failure> {
        export_directory(&opened.files, dir, format, stops)?;
        match opened.files.gguf() {
            None => take_over(opened.path(), dir),
            Some(_) => spell_out(opened, dir),
        }
    })
}

/// Copies what stands beside the weights.
fn take_over(from: &Path, to: &Path) -> Result<(), Failure> {
    for name in COMPANIONS {
        let path = from.join(name);
        if path.is_file() {
            std::fs::copy(&path, to.join(name)).map_err(|error| {
                Failure::Failed(format!("cannot copy `{}`: {error}", path.display()))
            })?;
        }
    }
    Ok(())
}

/// Writes the tokenizer and the template that a GGUF holds as files.
fn spell_out(opened: &Opened, dir: &Path) -> Result<(), Failure> {
    let Some(file) = opened.files.gguf() else { return Ok(()) };
    if file.value("tokenizer.ggml.tokens").is_none() {
        return Ok(());
    }
    let tokenizer = opened.tokenizer()?;
    tokenizer.save(dir.join("tokenizer.json"))?;
    let name_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    let template = file.text("tokenizer.chat_template")?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.adds_bos(),
        "bos_token": name_of(tokenizer.bos_id()),
        "eos_token": name_of(tokenizer.eos_id()),
        "pad_token": name_of(tokenizer.pad_id()),
        "clean_up_tokenization_spaces": false,
        "model_max_length": opened.files.config().max_position_embeddings,
        "chat_template": template,
    });
    let path = dir.join("tokenizer_config.json");
    std::fs::write(&path, format!("{config:#}\n"))
        .map_err(|error| Failure::Failed(format!("cannot write `{}`: {error}", path.display())))
}

fn to_gguf(
    opened: &Opened,
    out: &Path,
    format: Option<Format>,
    stops: &dyn Fn() -> bool,
) -> Result<Vec<PathBuf>, Failure> {
    // Programs that know GGUF have no use for the MTP module of these architectures.
    let config = Config { num_nextn_predict_layers: 0, ..opened.files.config().clone() };
    let format = format.unwrap_or_else(|| stored_format(opened));
    let vocabulary = vocabulary(opened)?;
    let name = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (n_tensors, done) = (names::tensors(&config).len(), Cell::new(0));
    let live = stderr_is_live();
    let source = |spec: &names::TensorSpec| {
        if stops() {
            return Err(fathom_model::Error::Stopped);
        }
        done.set(done.get() + 1);
        if live {
            to_stderr(&format!("\r\x1b[2Kwriting: {} of {n_tensors} tensors", done.get()));
        }
        export_source(&opened.files, spec)
    };
    let prefix = out.with_extension("");
    let written =
        gguf::export(&config, &name, vocabulary.as_ref(), format, &source, prefix, MAX_GGUF_BYTES);
    if live {
        to_stderr("\r\x1b[2K");
    }
    Ok(written?)
}

/// The format that a GGUF gets if none is asked for: that of most matrices, or the one that holds it.
fn stored_format(opened: &Opened) -> Format {
    if let Some(file) = opened.files.gguf() {
        let mut bytes = [0u64; Format::ALL.len()];
        for tensor in file.tensors() {
            if let Ok(format) = tensor.format() {
                bytes[format as usize] += tensor.n_elements() as u64;
            }
        }
        let most = (0..bytes.len()).max_by_key(|&at| bytes[at]).unwrap_or(0);
        return Format::ALL[most];
    }
    match opened.files.config().torch_dtype {
        TorchDtype::Float32 => Format::F32,
        TorchDtype::Float16 => Format::F16,
        TorchDtype::Bfloat16 => Format::Bf16,
    }
}

/// The tokenizer and template for a GGUF; none, with a note, if the model has no tokenizer.
fn vocabulary(opened: &Opened) -> Result<Option<gguf::Vocabulary>, Failure> {
    let chat_template = match opened.files.gguf() {
        Some(file) => {
            let template = file.text("tokenizer.chat_template")?;
            template.map(str::to_owned)
        }
        None if !opened.path().join("tokenizer.json").is_file() => {
            to_stderr("note: the model has no `tokenizer.json`; the file will take ids only\n");
            return Ok(None);
        }
        None => TokenizerConfig::open(opened.path())?
            .and_then(|config| config.chat_template().map(str::to_owned)),
    };
    words(&opened.tokenizer()?, chat_template).map(Some)
}

fn words(
    tokenizer: &Tokenizer,
    chat_template: Option<String>,
) -> Result<gguf::Vocabulary, Failure> {
    let vocabulary = tokenizer.vocabulary()?;
    Ok(gguf::Vocabulary {
        pre: vocabulary.pre,
        tokens: vocabulary.tokens,
        token_types: vocabulary.token_types,
        merges: vocabulary.merges,
        add_bos: vocabulary.add_bos,
        chat_template,
    })
}
