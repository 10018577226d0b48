//! Which files of a repository are wanted: those of a model, one GGUF of several, or patterns.

use crate::error::{Error, Result};

/// A file of a repository, with its bytes where they are known.
pub(crate) type Listed = (String, Option<u64>);

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) repo: &'a str,
    pub(crate) choice: Option<&'a str>,
    pub(crate) include: &'a [String],
    pub(crate) exclude: &'a [String],
}

/// Settings of a model beside its weights; names or patterns at the root of the repository.
const SETTINGS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "*.safetensors.index.json",
];
/// Weights that this program does not read; named in errors.
const OTHER_WEIGHTS: &[&str] = &["*.bin", "*.pt", "*.pth", "*.onnx", "*.h5", "*.msgpack"];

/// The names of the wanted files: settings first, then weights, each in the order of the alphabet.
///
/// Errors: [`Error::NoWeights`], [`Error::Ambiguous`], [`Error::NothingMatches`].
pub(crate) fn choose(asked: Asked<'_>, files: &[Listed]) -> Result<Vec<String>> {
    let left: Vec<Listed> =
        files.iter().filter(|(name, _)| !matches_any(asked.exclude, name)).cloned().collect();
    let mut chosen: Vec<String> = if !asked.include.is_empty() {
        let included = left.iter().filter(|(name, _)| matches_any(asked.include, name));
        included.map(|(name, _)| name.clone()).collect()
    } else if let Some(choice) = asked.choice {
        return one_gguf(asked.repo, Some(choice), &left);
    } else if left.iter().any(|(name, _)| is_safetensors(name)) {
        let wanted = |name: &str| is_safetensors(name) || is_setting(name);
        left.iter().filter(|(name, _)| wanted(name)).map(|(name, _)| name.clone()).collect()
    } else {
        return one_gguf(asked.repo, None, &left);
    };
    if chosen.is_empty() {
        let asked_for = asked.include.iter().map(|glob| format!("`{glob}`")).collect::<Vec<_>>();
        return Err(nothing_matches(asked.repo, asked_for.join(", "), files));
    }
    chosen.sort_by_key(|name| (is_weight(name), name.clone()));
    Ok(chosen)
}

/// The files of one GGUF model in the order of its parts: the one chosen, or the only one.
///
/// Errors: [`Error::NoWeights`], [`Error::Ambiguous`], [`Error::NothingMatches`].
pub(crate) fn one_gguf(repo: &str, choice: Option<&str>, files: &[Listed]) -> Result<Vec<String>> {
    let mut models = gguf_models(files);
    if models.is_empty() {
        let is_other = |name: &str| OTHER_WEIGHTS.iter().any(|glob| matches(glob, name));
        let others = files.iter().filter(|(name, _)| is_other(name)).map(|(name, _)| name.clone());
        return Err(Error::NoWeights { repo: repo.into(), others: others.collect() });
    }
    if let Some(choice) = choice {
        models.retain(|model| model.is_called(choice));
    }
    match models.len() {
        0 => Err(nothing_matches(repo, format!("`{}`", choice.unwrap_or_default()), files)),
        1 => Ok(models.remove(0).parts),
        _ => {
            let choices = models.into_iter().map(|mut model| (model.parts.remove(0), model.bytes));
            Err(Error::Ambiguous { repo: repo.into(), choices: choices.collect() })
        }
    }
}

/// How many files the GGUF of this name consists of, by its name.
pub(crate) fn n_gguf_parts(name: &str) -> usize {
    split_suffix(name).map_or(1, |(_, n)| n)
}

/// A GGUF model: one file, or the parts of one.
struct GgufModel {
    /// The path without `.gguf` and without the number of the part.
    stem: String,
    parts: Vec<String>,
    /// All parts together, if every one is known.
    bytes: Option<u64>,
}

impl GgufModel {
    /// Whether `choice` names it: its path, its file name, or the end of it after a mark such as
    /// `-`, or the folder it stands in.
    fn is_called(&self, choice: &str) -> bool {
        if choice.to_ascii_lowercase().ends_with(".gguf") {
            let is_it = |part: &String| part == choice || part.rsplit('/').next() == Some(choice);
            return self.parts.iter().any(is_it);
        }
        let (stem, choice) = (self.stem.to_ascii_lowercase(), choice.to_ascii_lowercase());
        let (folder, file) = stem.rsplit_once('/').unwrap_or(("", &stem));
        let marked = |text: &str| {
            text.strip_suffix(&choice)
                .is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_']))
        };
        marked(file) || (!folder.is_empty() && folder == choice)
    }
}

fn gguf_models(files: &[Listed]) -> Vec<GgufModel> {
    let mut models: Vec<GgufModel> = Vec::new();
    let mut sorted: Vec<&Listed> = files.iter().filter(|(name, _)| is_gguf_model(name)).collect();
    sorted.sort();
    for (name, bytes) in sorted {
        let stem = split_suffix(name).map_or(&name[..name.len() - ".gguf".len()], |(stem, _)| stem);
        match models.last_mut().filter(|model| model.stem == stem) {
            Some(model) => {
                model.parts.push(name.clone());
                model.bytes = model.bytes.zip(*bytes).map(|(a, b)| a.saturating_add(b));
            }
            None => models.push(GgufModel {
                stem: stem.to_owned(),
                parts: vec![name.clone()],
                bytes: *bytes,
            }),
        }
    }
    models
}

/// `name-00001-of-00003.gguf` as `name` and 3.
fn split_suffix(name: &str) -> Option<(&str, usize)> {
    let stem = strip_gguf(name)?;
    let (rest, n) = stem.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(n) && is_number(part) { Some((stem, n.parse().ok()?)) } else { None }
}

fn strip_gguf(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(".gguf".len())?;
    name.get(at..).filter(|end| end.eq_ignore_ascii_case(".gguf")).map(|_| &name[..at])
}

/// Projectors of images and importance matrices are GGUF files but no models.
fn is_gguf_model(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    strip_gguf(name).is_some() && !lower.contains("mmproj") && !lower.contains("imatrix")
}

/// Weights at the root; folders hold copies in other layouts.
pub(crate) fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains('/')
}

fn is_setting(name: &str) -> bool {
    !name.contains('/') && SETTINGS.iter().any(|glob| matches(glob, name))
}

fn is_weight(name: &str) -> bool {
    name.ends_with(".safetensors") || strip_gguf(name).is_some()
}

fn nothing_matches(repo: &str, asked: String, files: &[Listed]) -> Error {
    let names = files.iter().map(|(name, _)| name.clone()).collect();
    Error::NothingMatches { repo: repo.into(), asked, names }
}

fn matches_any(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| {
        if glob.ends_with('/') { matches(&format!("{glob}*"), name) } else { matches(glob, name) }
    })
}

/// Whether `*` (any characters, slashes too) and `?` (one character) make `glob` into `name`.
/// Time is at most the product of the lengths.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if glob.get(g) == Some(&'*') {
            star = Some((g, n));
            g += 1;
        } else if g < glob.len() && (glob[g] == '?' || glob[g] == name[n]) {
            g += 1;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            g = at + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_of(
        names: &[&str],
        choice: Option<&str>,
        include: &[&str],
        exclude: &[&str],
    ) -> Result<Vec<String>> {
        let files: Vec<Listed> = names.iter().map(|name| (name.to_string(), Some(1))).collect();
        let [include, exclude] =
            [include, exclude].map(|globs| globs.iter().map(|g| g.to_string()).collect::<Vec<_>>());
        choose(Asked { repo: "o/n", choice, include: &include, exclude: &exclude }, &files)
    }

    #[test]
    fn a_model_is_its_settings_and_its_safetensors() {
        let names = [
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "README.md",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/model.safetensors",
            "model-q4.gguf",
        ];
        let expected = [
            "chat_template.jinja",
            "config.json",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(choose_of(&names, None, &[], &[]).unwrap(), expected);
        let only = choose_of(&names, None, &["*.md", "onnx/"], &["*.onnx"]).unwrap();
        assert_eq!(only, ["README.md"]);
        assert!(matches!(
            choose_of(&names, None, &["*.txt"], &[]),
            Err(Error::NothingMatches { names, .. }) if names.len() == 12
        ));
    }

    #[test]
    fn one_gguf_of_several_is_chosen_with_all_its_parts() {
        let names = [
            "R1-Q4_K_M.gguf",
            "R1-IQ4_K_M.gguf",
            "R1-Q8_0-00002-of-00002.gguf",
            "R1-Q8_0-00001-of-00002.gguf",
            "UD-Q2/R1-00001-of-00002.gguf",
            "UD-Q2/R1-00002-of-00002.gguf",
            "mmproj-f16.gguf",
            "README.md",
        ];
        let q8 = ["R1-Q8_0-00001-of-00002.gguf", "R1-Q8_0-00002-of-00002.gguf"];
        for choice in ["q8_0", "R1-Q8_0-00001-of-00002.gguf"] {
            assert_eq!(choose_of(&names, Some(choice), &[], &[]).unwrap(), q8, "{choice}");
        }
        assert_eq!(choose_of(&names, Some("Q4_K_M"), &[], &[]).unwrap(), ["R1-Q4_K_M.gguf"]);
        assert_eq!(choose_of(&names, Some("UD-Q2"), &[], &[]).unwrap().len(), 2);
        let Err(Error::Ambiguous { choices, .. }) = choose_of(&names, None, &[], &[]) else {
            panic!("four models and no choice");
        };
        assert_eq!(choices.len(), 4);
        assert_eq!(choices[2], (q8[0].to_owned(), Some(2)));
        assert!(matches!(
            choose_of(&names, Some("Q5_K"), &[], &[]),
            Err(Error::NothingMatches { .. })
        ));
        assert_eq!(choose_of(&["x.gguf"], None, &[], &[]).unwrap(), ["x.gguf"]);
        assert_eq!(n_gguf_parts(q8[0]), 2);
    }

    #[test]
    fn weights_that_cannot_be_read_are_named() {
        let Err(Error::NoWeights { others, .. }) =
            choose_of(&["config.json", "pytorch_model.bin"], None, &[], &[])
        else {
            panic!("nothing to read");
        };
        assert_eq!(others, ["pytorch_model.bin"]);
    }

    #[test]
    fn patterns_match_whole_names_in_bounded_time() {
        assert!(matches("*Q4*.gguf", "a/b-Q4_0.gguf") && matches("a?c", "abc"));
        assert!(!matches("Q4", "xQ4") && !matches("a?", "a") && matches("**", ""));
        assert!(!matches(&"*a".repeat(200), &"b".repeat(10_000)));
    }
}
