//! `leasehold invalidate`: declaring pages out of date.

use super::{ClientFlags, Ending, Session};
use crate::{
    exit::{Exit, Failure},
    shape::{self, ScopeShape},
};
use clap::{Args, Subcommand};
use leasehold_client::{Depth, Scope};
use serde::Serialize;

pub(crate) const JSON: &str = "\
It is not checked that there are such pages. Change the data first, then invalidate. The consistency token, which is printed, goes with
`lookup --token`, `explain --token`, `page --token` and `lease acquire --token`.
JSON:
  {consistency_token, depth: soft|hard,
   scopes: [{tenant, scope: everything|tenant|deployment|prefix|tag|key, value}]}";

const SEE: &str = "\
It is not checked that there are such pages. JSON: leasehold invalidate --help. Exit codes:
leasehold --help";

#[derive(Args, Clone, Debug)]
pub(crate) struct InvalidateFlags {
    #[command(subcommand)]
    what: What,
    /// Purge: the pages are not served as stale either
    #[arg(long, global = true)]
    hard: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// The entries of these keys, in every release
    #[command(after_help = SEE)]
    Key {
        /// Keys, 1 to 100
        #[arg(required = true, num_args = 1..=100, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// The pages with one of these tags
    #[command(after_help = SEE)]
    Tag {
        /// Tags, 1 to 100
        #[arg(required = true, num_args = 1..=100, value_name = "TAG")]
        tags: Vec<String>,
    },
    /// The pages at these paths or below them, by whole segments
    #[command(after_help = SEE)]
    Prefix {
        /// Paths, 1 to 100
        #[arg(required = true, num_args = 1..=100, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// The pages of these releases
    #[command(after_help = SEE)]
    Deployment {
        /// Releases, 1 to 100
        #[arg(required = true, num_args = 1..=100, value_name = "RELEASE")]
        releases: Vec<String>,
    },
    /// Every page of the tenant
    #[command(after_help = SEE)]
    Tenant {
        /// Yes, all of them
        #[arg(long)]
        yes: bool,
    },
    /// Every page of every tenant
    #[command(after_help = SEE)]
    All {
        /// Yes, all of them
        #[arg(long)]
        yes: bool,
    },
}

/// What `invalidate` answers.
#[derive(Debug, Serialize)]
struct InvalidateShape {
    consistency_token: String,
    depth: &'static str,
    scopes: Vec<ScopeShape>,
}

impl InvalidateFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { what, hard, client: _ } = self;
        let scopes = what.scopes(session)?;
        let depth = if hard { Depth::Hard } else { Depth::Soft };
        let token =
            session.coordinator.invalidate(&scopes, depth).await.map_err(|error| session.failed(&error))?;
        let shape = InvalidateShape {
            consistency_token: token.as_str().to_owned(),
            depth: shape::depth(depth),
            scopes: scopes.iter().map(ScopeShape::from).collect(),
        };
        // Alone, so that a shell can keep it in a variable.
        session.output.result(&shape, || shape.consistency_token.clone())?;
        Ok(Ending::Done)
    }
}

impl What {
    fn scopes(self, session: &Session) -> Result<Vec<Scope>, Failure> {
        let each = |names: Vec<String>, scope: fn(String) -> Scope| {
            Ok(names.into_iter().map(|name| session.scope(scope(name))).collect())
        };
        let sure = |yes: bool, whose: &str| {
            let unsure = || {
                Failure::new(
                    Exit::Usage,
                    format!("this puts every page of {whose} out of date"),
                    "repeat it with --yes",
                )
            };
            if yes { Ok(()) } else { Err(unsure()) }
        };
        match self {
            Self::Key { keys } => each(keys, Scope::key),
            Self::Tag { tags } => each(tags, Scope::tag),
            Self::Prefix { paths } => each(paths, Scope::path_prefix),
            Self::Deployment { releases } => each(releases, Scope::deployment),
            Self::Tenant { yes } => {
                sure(yes, &format!("the tenant {}", session.tenant()))?;
                Ok(vec![Scope::whole_tenant(session.tenant())])
            }
            Self::All { yes } => {
                sure(yes, "every tenant")?;
                Ok(vec![Scope::everything()])
            }
        }
    }
}
