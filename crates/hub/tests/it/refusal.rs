//! Tokens go to the endpoint alone; refusals say what to do; hostile names touch nothing.

use crate::fetching::{check_whole, folder, name, pull_all, settings};
use crate::server::{Hub, large, small};
use fathom_hub::{Error, ModelName, Revision, Settings, Token, Unwatched, pull};
use std::fs;

#[test]
fn a_private_repository_opens_to_its_token_which_the_storage_never_sees() {
    let (hub, dir) = (Hub::start(), folder("private"));
    hub.state().token = Some("hf_right".into());
    let nobody = settings(&hub, &dir);
    let error = pull_all(&nobody).unwrap_err();
    assert!(matches!(error, Error::NoRepo { had_token: false, .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");

    let with = |token| Settings { token: Some(Token::new(token).unwrap()), ..nobody.clone() };
    let error = pull_all(&with("hf_wrong")).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 401, had_token: true, .. }), "{error}");
    assert!(!error.to_string().contains("hf_wrong"), "{error}");

    hub.requests();
    check_whole(&hub, &pull_all(&with("hf_right")).unwrap());
    let (mut n_at_hub, mut n_at_storage) = (0, 0);
    for asked in hub.requests() {
        let given = asked.headers.get("authorization").map(String::as_str);
        let count = if asked.at_storage { &mut n_at_storage } else { &mut n_at_hub };
        *count += 1;
        assert_eq!(given, (!asked.at_storage).then_some("Bearer hf_right"), "{asked:?}");
    }
    assert!(n_at_hub > 5 && n_at_storage == 3, "{n_at_hub} {n_at_storage}");
}

#[test]
fn a_gated_repository_says_where_its_terms_are() {
    let (hub, dir) = (Hub::start(), folder("gated"));
    hub.state().gated = true;
    let text = pull_all(&settings(&hub, &dir)).unwrap_err().to_string();
    assert!(text.contains("is gated"), "{text}");
    assert!(text.contains(&format!("{}/tiny/model", hub.endpoint)), "{text}");
}

#[test]
fn what_is_not_there_is_said_at_once() {
    let (hub, dir) = (Hub::start(), folder("missing"));
    let settings = settings(&hub, &dir);
    let other = ModelName::parse("tiny/other").unwrap();
    let error = pull(&settings, &other.into(), &mut Unwatched).unwrap_err();
    assert!(matches!(error, Error::NoRepo { .. }), "{error}");
    let mut request = fathom_hub::Request::from(name());
    request.revision = Revision::new("v9").unwrap();
    let error = pull(&settings, &request, &mut Unwatched).unwrap_err();
    assert!(matches!(error, Error::NoRevision { .. }), "{error}");
    request = name().into();
    request.include = vec!["*.gguf".into()];
    let text = pull(&settings, &request, &mut Unwatched).unwrap_err().to_string();
    assert!(text.contains("matches `*.gguf`") && text.contains("`config.json`"), "{text}");
    assert_eq!(hub.requests().len(), 3, "none of these is worth a second attempt");
    hub.state().files = [("pytorch_model.bin".to_owned(), large(1, 10))].into();
    let error = pull_all(&settings).unwrap_err();
    assert!(error.to_string().contains("only such as `pytorch_model.bin`"), "{error}");
}

#[test]
fn a_server_that_is_no_hub_is_told_apart() {
    let (hub, dir) = (Hub::start(), folder("no_hub"));
    hub.state().commit = "../../../etc".into();
    let error = pull_all(&settings(&hub, &dir)).unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
    let nowhere = Settings { endpoint: "http://127.0.0.1:1".into(), ..settings(&hub, &dir) };
    assert!(matches!(pull_all(&nowhere), Err(Error::Network { .. })));
    let unknown = Settings { endpoint: "http://hub.invalid".into(), ..settings(&hub, &dir) };
    assert!(matches!(pull_all(&unknown), Err(Error::NoHost { .. })));
}

#[test]
fn hostile_file_names_touch_nothing() {
    let bad = ["../../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:/evil", "a//evil"];
    for hostile in bad {
        let (hub, dir) = (Hub::start(), folder("hostile"));
        hub.state().files.insert(hostile.into(), small("evil"));
        let error = pull_all(&settings(&hub, &dir)).unwrap_err();
        assert!(matches!(&error, Error::HostileName { name, .. } if name == hostile), "{error}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{hostile}");
    }
    // A file that is also a folder would be written through a link.
    let (hub, dir) = (Hub::start(), folder("hostile"));
    hub.state().files.insert("config.json/evil".into(), small("evil"));
    assert!(matches!(pull_all(&settings(&hub, &dir)), Err(Error::HostileName { .. })));
}

#[test]
#[cfg(unix)]
fn a_folder_of_the_snapshot_that_leads_elsewhere_is_not_followed() {
    let (hub, dir) = (Hub::start(), folder("leads_away"));
    let elsewhere = folder("elsewhere");
    hub.state().files.insert("sub/file.json".into(), small("{}"));
    let pulled = pull_all(&settings(&hub, &dir)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, pulled.dir.join("sub")).unwrap();
    let mut request = fathom_hub::Request::from(name());
    request.include = vec!["sub/*".into()];
    let error = pull(&settings(&hub, &dir), &request, &mut Unwatched).unwrap_err();
    assert!(error.to_string().contains("leads out of the cache"), "{error}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}
