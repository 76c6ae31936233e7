//! The binaries that fleets consist of.

use escargot::{CargoBuild, format::Message};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The coordinator.
pub(crate) fn coordinator() -> &'static Path {
    &built().coordinator
}

/// The example site.
pub(crate) fn site() -> &'static Path {
    &built().site
}

/// The example of a render Lambda.
pub(crate) fn lambda() -> &'static Path {
    &built().lambda
}

struct Built {
    coordinator: PathBuf,
    site: PathBuf,
    lambda: PathBuf,
}

/// Builds them once per test process, with the profile and into the target directory of the tests, so that
/// what the tests were built from serves again. `--workspace` selects the same features as `cargo test
/// --workspace` does: without it the whole dependency tree would be built a second time. Cargo lets go of its
/// lock on the target directory before it runs tests, so this cannot wait for itself.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let build = CargoBuild::new().manifest_path(manifest).arg("--workspace");
        let build = build.bin("leasehold").example("site").example("lambda");
        let build = if cfg!(debug_assertions) { build } else { build.release() };
        let mut executables = HashMap::new();
        let mut complaints = String::new();
        let outcome = build.exec().and_then(|messages| {
            for message in messages {
                let message = message?;
                match message.decode()? {
                    Message::CompilerArtifact(artifact) => {
                        if let Some(path) = artifact.executable {
                            executables.insert(artifact.target.name.into_owned(), path.into_owned());
                        }
                    }
                    Message::CompilerMessage(message) => {
                        complaints.extend(message.message.rendered.as_deref());
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("the binaries of the fleet do not build: {error}\n{complaints}");
        }
        let mut take = |name| executables.remove(name).unwrap_or_else(|| panic!("cargo built no {name}"));
        Built { coordinator: take("leasehold"), site: take("site"), lambda: take("lambda") }
    })
}
