//! What a person sees on stdout when the coordinator has started: where it is, and what to type next.

use crate::{access::Auth, serve::Started};
use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// Prints it. That nobody reads it is no reason not to serve.
pub(crate) fn print(started: &Started, program: &Path) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text(started, &invocation(program)).as_bytes());
    let _ = stdout.flush();
}

fn text(started: &Started, invocation: &Invocation) -> String {
    let Started { address, place: data, is_encrypted, auth, admin } = started;
    let endpoint = endpoint_option(*address, *is_encrypted);
    let Invocation { command, place } = invocation;
    let run = |arguments: &str| format!("  {command} {arguments}{endpoint}\n");
    let first_page = "commit hello --html - --tag greetings --revalidate 60s";
    let mut text = format!("Leasehold listens on {address}; its data is in {data}\n\n");
    text.push_str(&format!("Try it from another terminal{place}:\n"));
    text.push_str(&format!("  echo '<h1>Hello</h1>' | {}", run(first_page).trim_start()));
    text.push_str(&run("lookup hello --body"));
    text.push_str(&run("explain hello"));
    text.push_str(&run("invalidate tag greetings"));
    let needs = match (is_encrypted, auth) {
        (false, Auth::None) => "",
        (true, Auth::None) => "LEASEHOLD_CA_PEM or --ca",
        (false, Auth::Token { .. }) => "LEASEHOLD_AUTH_TOKEN or --auth-token-file",
        (true, Auth::Token { .. }) => {
            "LEASEHOLD_CA_PEM or --ca, and LEASEHOLD_AUTH_TOKEN or --auth-token-file"
        }
        (_, Auth::Mtls { .. }) => "--ca, --client-cert and --client-key",
    };
    if !needs.is_empty() {
        text.push_str(&format!("Callers say who they are, and whom they believe, by {needs}\n"));
    }
    if let Some(admin) = admin {
        text.push_str(&format!("\nIts admin port, which is private: http://{admin}/\n"));
    }
    text.push_str(&format!("\nCtrl-C stops it. Settings: {command} serve --help\n"));
    text
}

/// How this program is called.
struct Invocation {
    command: String,
    /// Where that works, if not everywhere.
    place: &'static str,
}

/// Cargo says by its variables that it runs the program; else it is as it was typed, made absolute because
/// another terminal is likely to be in another directory.
fn invocation(program: &Path) -> Invocation {
    let by_cargo = std::env::var_os("CARGO").is_some()
        && std::env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == env!("CARGO_PKG_NAME"));
    if by_cargo {
        let release = if cfg!(debug_assertions) { "" } else { " --release" };
        return Invocation { command: format!("cargo run -q{release} --"), place: ", in this directory" };
    }
    let is_bare = program.components().count() == 1;
    let path =
        if is_bare { program.to_owned() } else { std::path::absolute(program).unwrap_or(program.to_owned()) };
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    let command = if path.chars().all(plain) {
        path.into_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    };
    Invocation { command, place: "" }
}

/// The option that leads from this machine to `address`, with a space before it; nothing where the default
/// does.
fn endpoint_option(address: SocketAddr, is_encrypted: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if is_encrypted { "https" } else { "http" };
    let endpoint = format!("{scheme}://{}", SocketAddr::new(ip, address.port()));
    if endpoint == leasehold_client::DEFAULT_ENDPOINT {
        String::new()
    } else {
        format!(" --endpoint {endpoint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_address_needs_no_endpoint_and_a_wildcard_is_reached_by_loopback() {
        let table = [
            ("127.0.0.1:7420", ""),
            ("127.0.0.1:80", " --endpoint http://127.0.0.1:80"),
            ("0.0.0.0:7420", ""),
            ("[::]:9", " --endpoint http://[::1]:9"),
            ("192.0.2.1:7420", " --endpoint http://192.0.2.1:7420"),
        ];
        for (address, expected) in table {
            assert_eq!(endpoint_option(address.parse().unwrap(), false), expected, "{address}");
        }
    }
}
