//! Requests and the keys that JavaScript derives from them: made once by a Node.js 20 (ICU 78) program of its
//! own, so that they judge this crate's code and its collation data alike.

use super::{CookieAllowlist, CookieVariant, RequestParts, VariantPolicy, derive_key};
use crate::identity::TenantId;

/// One request, written without allocation, and its key.
struct Vector {
    name: &'static str,
    tenant: &'static str,
    route: &'static str,
    params: &'static [(&'static str, &'static str)],
    query: &'static [(&'static str, &'static [&'static str])],
    headers: &'static [(&'static str, &'static [&'static str])],
    cookies: &'static [(&'static str, &'static str)],
    auth: bool,
    vary: Vary,
    key: &'static str,
}

enum Vary {
    None,
    All,
    Only(&'static [&'static str]),
}

const PLAIN: Vector = Vector {
    name: "",
    tenant: "default",
    route: "/",
    params: &[],
    query: &[],
    headers: &[],
    cookies: &[],
    auth: true,
    vary: Vary::All,
    key: "",
};

impl Vector {
    fn parts(&self) -> RequestParts {
        let single =
            |list: &[(&str, &str)]| list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let multi = |list: &[(&str, &[&str])]| {
            list.iter().map(|(n, vs)| (n.to_string(), vs.iter().map(|v| v.to_string()).collect())).collect()
        };
        let cookies = match self.vary {
            Vary::None => CookieVariant::None,
            Vary::All => CookieVariant::All,
            Vary::Only(names) => CookieVariant::Only(CookieAllowlist::new(names).unwrap()),
        };
        RequestParts {
            route: self.route.to_string(),
            params: single(self.params),
            query: multi(self.query),
            headers: multi(self.headers),
            cookies: single(self.cookies),
            variant: VariantPolicy { auth: self.auth, cookies },
        }
    }
}

#[test]
fn keys_are_those_that_javascript_derives() {
    for vector in &VECTORS {
        let key = derive_key(&TenantId::parse(vector.tenant).unwrap(), &vector.parts()).unwrap();
        assert_eq!(key.as_str(), vector.key, "{}", vector.name);
    }
}

const VECTORS: [Vector; 67] = [
    Vector { name: "an empty route is the root", route: "", key: "default::/?", ..PLAIN },
    Vector {
        name: "a blank route is the root",
        route: " \u{9}\n\u{feff}\u{a0} ",
        key: "default::/?",
        ..PLAIN
    },
    Vector { name: "the root", route: "/", key: "default::/?", ..PLAIN },
    Vector { name: "slashes alone are the root", route: "///", key: "default::/?", ..PLAIN },
    Vector { name: "a plain route", route: "/about", key: "default::/about?", ..PLAIN },
    Vector { name: "a leading slash is added", route: "about", key: "default::/about?", ..PLAIN },
    Vector {
        name: "one leading slash is kept and none trailing",
        route: "//about//",
        key: "default::/about?",
        ..PLAIN
    },
    Vector { name: "slashes within are kept", route: "/a//b", key: "default::/a//b?", ..PLAIN },
    Vector { name: "a query of the route is cut", route: "/about?x=1", key: "default::/about?", ..PLAIN },
    Vector {
        name: "a route is not encoded",
        route: "/caf\u{e9} {x}#y",
        key: "default::/caf\u{e9} {x}#y?",
        ..PLAIN
    },
    Vector {
        name: "white space before a query of the route is kept",
        route: " /a ?x ",
        key: "default::/a ?",
        ..PLAIN
    },
    Vector { name: "a tenant", tenant: "acme", route: "/", key: "acme::/?", ..PLAIN },
    Vector {
        name: "a tenant is not encoded",
        tenant: "a::/b?c d",
        route: "/",
        key: "a::/b?c d::/?",
        ..PLAIN
    },
    Vector {
        name: "a param",
        route: "/blog/{slug}",
        params: &[("slug", "hello-world")],
        key: "default::/blog/{slug}?slug=hello-world",
        ..PLAIN
    },
    Vector {
        name: "params sorted by name",
        route: "/{b}/{a}",
        params: &[("b", "2"), ("a", "1")],
        key: "default::/{b}/{a}?a=1&b=2",
        ..PLAIN
    },
    Vector {
        name: "a rest param is one value",
        route: "/{proxy+}",
        params: &[("proxy", "a/b c/d")],
        key: "default::/{proxy+}?proxy=a%2Fb%20c%2Fd",
        ..PLAIN
    },
    Vector { name: "an empty param", route: "/{a}", params: &[("a", "")], key: "default::/{a}?a=", ..PLAIN },
    Vector {
        name: "params before query",
        route: "/{z}",
        params: &[("z", "1")],
        query: &[("a", &["2"])],
        key: "default::/{z}?z=1&a=2",
        ..PLAIN
    },
    Vector {
        name: "a query name shadows no param",
        route: "/{id}",
        params: &[("id", "1")],
        query: &[("id", &["2"])],
        key: "default::/{id}?id=1&id=2",
        ..PLAIN
    },
    Vector {
        name: "an absent rest param is empty when the query has its name",
        route: "/{proxy*}",
        query: &[("proxy", &["about"])],
        key: "default::/{proxy*}?proxy=&proxy=about",
        ..PLAIN
    },
    Vector {
        name: "an absent rest param is left out otherwise",
        route: "/{proxy*}",
        query: &[("q", &["about"])],
        key: "default::/{proxy*}?q=about",
        ..PLAIN
    },
    Vector {
        name: "an absent param among others",
        route: "/{b}/{a}",
        params: &[("b", "1")],
        query: &[("a", &["2"])],
        key: "default::/{b}/{a}?a=&b=1&a=2",
        ..PLAIN
    },
    Vector {
        name: "a rest param under its sign is present",
        route: "/{rest+}",
        params: &[("rest+", "x")],
        query: &[("rest", &["y"])],
        key: "default::/{rest+}?rest%2B=x&rest=y",
        ..PLAIN
    },
    Vector {
        name: "values of a name in their order",
        query: &[("b", &["2", "1", "2"]), ("a", &["z", "y"])],
        key: "default::/?a=z&a=y&b=2&b=1&b=2",
        ..PLAIN
    },
    Vector {
        name: "a repeated name joins its values",
        query: &[("b", &["2"]), ("a", &["1"]), ("b", &["0"])],
        key: "default::/?a=1&b=2&b=0",
        ..PLAIN
    },
    Vector {
        name: "a name without values is absent",
        query: &[("a", &[]), ("b", &[""])],
        key: "default::/?b=",
        ..PLAIN
    },
    Vector { name: "an empty name", query: &[("", &[""]), ("a", &["1"])], key: "default::/?=&a=1", ..PLAIN },
    Vector {
        name: "the sidecar token is not part of a key",
        query: &[("__facetheory_isr_hydration", &["abc"]), ("a", &["1"])],
        key: "default::/?a=1",
        ..PLAIN
    },
    Vector {
        name: "the unreserved are not encoded",
        query: &[("AZaz09-_.!~*'()", &["AZaz09-_.!~*'()"])],
        key: "default::/?AZaz09-_.!~*'()=AZaz09-_.!~*'()",
        ..PLAIN
    },
    Vector {
        name: "the reserved are encoded",
        query: &[(";,/?:@&=+$#", &[" \"%<>[\\]^`{|}"])],
        key: "default::/?%3B%2C%2F%3F%3A%40%26%3D%2B%24%23=%20%22%25%3C%3E%5B%5C%5D%5E%60%7B%7C%7D",
        ..PLAIN
    },
    Vector {
        name: "control characters are encoded",
        query: &[("a\u{0}b", &["\n\u{d}\u{9}\u{7f}"])],
        key: "default::/?a%00b=%0A%0D%09%7F",
        ..PLAIN
    },
    Vector {
        name: "unicode is encoded as utf-8",
        query: &[("\u{fc}", &["\u{df}\u{20ac}\u{1f600}"]), ("\u{65e5}", &["\u{672c}"])],
        key: "default::/?%C3%BC=%C3%9F%E2%82%AC%F0%9F%98%80&%E6%97%A5=%E6%9C%AC",
        ..PLAIN
    },
    Vector {
        name: "order: case after letters",
        query: &[("B", &[""]), ("a", &[""]), ("A", &[""]), ("b", &[""]), ("Z", &[""]), ("z", &[""])],
        key: "default::/?a=&A=&b=&B=&z=&Z=",
        ..PLAIN
    },
    Vector {
        name: "order: accents after letters, before case",
        query: &[
            ("zebra", &[""]),
            ("\u{e9}clair", &[""]),
            ("eclair", &[""]),
            ("Eclair", &[""]),
            ("E\u{301}tude", &[""]),
            ("f", &[""]),
            ("e", &[""]),
        ],
        key: "default::/?e=&eclair=&Eclair=&%C3%A9clair=&E%CC%81tude=&f=&zebra=",
        ..PLAIN
    },
    Vector {
        name: "order: punctuation, digits, letters",
        query: &[
            ("a", &[""]),
            ("1", &[""]),
            ("_a", &[""]),
            ("-a", &[""]),
            (".a", &[""]),
            ("a-b", &[""]),
            ("ab", &[""]),
            ("a_b", &[""]),
            ("a.b", &[""]),
            ("10", &[""]),
            ("2", &[""]),
            ("$", &[""]),
            ("~", &[""]),
            ("[]", &[""]),
            ("a[0]", &[""]),
            ("a[]", &[""]),
            ("@", &[""]),
            (" ", &[""]),
        ],
        key: "default::/?%20=&_a=&-a=&.a=&%5B%5D=&%40=&~=&%24=&1=&10=&2=&a=&a_b=&a-b=&a.b=&a%5B%5D=&a%5B0%5D=&ab=",
        ..PLAIN
    },
    Vector {
        name: "order: scripts",
        query: &[
            ("\u{65e5}\u{672c}", &[""]),
            ("\u{430}", &[""]),
            ("\u{3b1}", &[""]),
            ("a", &[""]),
            ("\u{5d0}", &[""]),
            ("\u{3042}", &[""]),
            ("\u{30a2}", &[""]),
            ("\u{627}", &[""]),
            ("\u{d55c}", &[""]),
            ("\u{1f600}", &[""]),
            ("\u{e01}", &[""]),
        ],
        key: "default::/?%F0%9F%98%80=&a=&%CE%B1=&%D0%B0=&%D7%90=&%D8%A7=&%E0%B8%81=&%ED%95%9C=&%E3%81%82=&%E3%82%A2=&%E6%97%A5%E6%9C%AC=",
        ..PLAIN
    },
    Vector {
        name: "order: ligatures and expansions",
        query: &[
            ("stra\u{df}e", &[""]),
            ("strasse", &[""]),
            ("stra\u{df}e2", &[""]),
            ("\u{e6}on", &[""]),
            ("aeon", &[""]),
            ("afon", &[""]),
            ("\u{152}uvre", &[""]),
            ("oeuvre", &[""]),
            ("\u{142}", &[""]),
            ("l", &[""]),
            ("m", &[""]),
        ],
        key: "default::/?aeon=&%C3%A6on=&afon=&l=&%C5%82=&m=&oeuvre=&%C5%92uvre=&strasse=&stra%C3%9Fe=&stra%C3%9Fe2=",
        ..PLAIN
    },
    Vector {
        name: "order: widths and numerals",
        query: &[
            ("\u{ff21}", &[""]),
            ("A", &[""]),
            ("a", &[""]),
            ("\u{2460}", &[""]),
            ("1", &[""]),
            ("\u{bd}", &[""]),
            ("\u{663}", &[""]),
            ("3", &[""]),
            ("2", &[""]),
        ],
        key: "default::/?1=&%E2%91%A0=&%C2%BD=&2=&%D9%A3=&3=&a=&A=&%EF%BC%A1=",
        ..PLAIN
    },
    Vector {
        name: "order: canonical equals keep theirs",
        query: &[("\u{e9}", &["1"]), ("e\u{301}", &["2"]), ("e", &["3"])],
        key: "default::/?e=3&%C3%A9=1&e%CC%81=2",
        ..PLAIN
    },
    Vector {
        name: "order: canonical equals keep theirs, turned",
        query: &[("e\u{301}", &["2"]), ("\u{e9}", &["1"]), ("e", &["3"])],
        key: "default::/?e=3&e%CC%81=2&%C3%A9=1",
        ..PLAIN
    },
    Vector {
        name: "order: ignored characters keep theirs",
        query: &[("a\u{200d}", &["1"]), ("a", &["2"]), ("a\u{ad}", &["3"])],
        key: "default::/?a%E2%80%8D=1&a=2&a%C2%AD=3",
        ..PLAIN
    },
    Vector {
        name: "auth",
        headers: &[("authorization", &["Bearer s3cret"])],
        key: "default::/?#auth=20be4e342fb6303cbc770508",
        ..PLAIN
    },
    Vector {
        name: "auth header names in any case and padded",
        headers: &[(" Authorization ", &["Bearer s3cret"])],
        key: "default::/?#auth=20be4e342fb6303cbc770508",
        ..PLAIN
    },
    Vector {
        name: "auth: blank counts as present",
        headers: &[("authorization", &[""])],
        key: "default::/?#auth=d41484a8f359af4bc55b656d",
        ..PLAIN
    },
    Vector {
        name: "auth: no values count as absent",
        headers: &[("authorization", &[])],
        key: "default::/?",
        ..PLAIN
    },
    Vector {
        name: "auth: several values",
        headers: &[("x-api-key", &["k1", "k2"])],
        key: "default::/?#auth=e23bbe807f5ecb28f771b648",
        ..PLAIN
    },
    Vector {
        name: "auth: a repeated header joins its values",
        headers: &[("X-Api-Key", &["k1"]), ("x-api-key", &["k2"])],
        key: "default::/?#auth=e23bbe807f5ecb28f771b648",
        ..PLAIN
    },
    Vector {
        name: "auth: all four, sorted",
        headers: &[
            ("x-api-key", &["a"]),
            ("x-amz-security-token", &["b"]),
            ("proxy-authorization", &["c"]),
            ("authorization", &["d"]),
            ("accept", &["e"]),
        ],
        key: "default::/?#auth=9a191905636fc7d44874edb6",
        ..PLAIN
    },
    Vector {
        name: "auth: values are not trimmed",
        headers: &[("authorization", &[" x "])],
        key: "default::/?#auth=73a3e1f78ecc1e72cd5da57e",
        ..PLAIN
    },
    Vector {
        name: "auth: a separator in a value",
        headers: &[("x-api-key", &["k1\u{0}k2"])],
        key: "default::/?#auth=a50610f49311f40a47c7be14",
        ..PLAIN
    },
    Vector {
        name: "auth: not varied on",
        headers: &[("authorization", &["Bearer s3cret"])],
        auth: false,
        key: "default::/?",
        ..PLAIN
    },
    Vector {
        name: "other headers do not vary",
        headers: &[("accept-language", &["de"]), ("x-tenant-id", &["acme"]), ("cookie", &["a=1"])],
        key: "default::/?",
        ..PLAIN
    },
    Vector {
        name: "cookies",
        cookies: &[("session", "abc")],
        key: "default::/?#cookies=a47daa9671e781e941fe41c1",
        ..PLAIN
    },
    Vector {
        name: "cookies sorted",
        cookies: &[("b", "2"), ("A", "0"), ("a", "1")],
        key: "default::/?#cookies=63511bd63597bc78a8484066",
        ..PLAIN
    },
    Vector {
        name: "cookies: unicode and reserved are raw",
        cookies: &[("\u{fc}", "x=y;z&\u{20ac}")],
        key: "default::/?#cookies=5bca54b3c929841b5e8c3562",
        ..PLAIN
    },
    Vector {
        name: "cookies: empty values",
        cookies: &[("a", ""), ("b", "")],
        key: "default::/?#cookies=ea616e82e11164faa6ab9f82",
        ..PLAIN
    },
    Vector {
        name: "cookies: a repeated one stays twice",
        cookies: &[("a", "2"), ("b", "0"), ("a", "1")],
        key: "default::/?#cookies=56b067c1a1d91f3f95e05489",
        ..PLAIN
    },
    Vector {
        name: "cookies: a line feed in a value",
        cookies: &[("a", "1\nb=2")],
        key: "default::/?#cookies=3e78d7e010dea764d2a9f947",
        ..PLAIN
    },
    Vector {
        name: "cookies: which that could be taken for",
        cookies: &[("a", "1"), ("b", "2")],
        key: "default::/?#cookies=55c420c0f44ea4c6c84414bc",
        ..PLAIN
    },
    Vector {
        name: "cookies: an equals sign in a name",
        cookies: &[("a=b", "c")],
        key: "default::/?#cookies=dd1f18fcc84c3b442eb7f7b5",
        ..PLAIN
    },
    Vector { name: "cookies: none", cookies: &[("a", "1")], vary: Vary::None, key: "default::/?", ..PLAIN },
    Vector {
        name: "cookies: allowlist",
        cookies: &[("a", "1"), ("b", "2")],
        vary: Vary::Only(&["b"]),
        key: "default::/?#cookies=efa2eba7fff4b83927eef403",
        ..PLAIN
    },
    Vector {
        name: "cookies: allowlist is trimmed, repeats and blanks dropped",
        cookies: &[("a", "1"), ("b", "2"), ("c", "3")],
        vary: Vary::Only(&[" b ", "", "a", "b"]),
        key: "default::/?#cookies=55c420c0f44ea4c6c84414bc",
        ..PLAIN
    },
    Vector {
        name: "cookies: allowlist minds the case",
        cookies: &[("a", "1")],
        vary: Vary::Only(&["A"]),
        key: "default::/?",
        ..PLAIN
    },
    Vector {
        name: "cookies: allowlist without a match",
        cookies: &[("a", "1")],
        vary: Vary::Only(&["z"]),
        key: "default::/?",
        ..PLAIN
    },
    Vector {
        name: "auth and cookies",
        headers: &[("authorization", &["Bearer s3cret"])],
        cookies: &[("session", "abc")],
        key: "default::/?#auth=20be4e342fb6303cbc770508&cookies=a47daa9671e781e941fe41c1",
        ..PLAIN
    },
    Vector {
        name: "everything",
        tenant: "acme",
        route: "shop/{cat}/{proxy+}/",
        params: &[("proxy", "a/b"), ("cat", "caf\u{e9}")],
        query: &[("Sort", &["up"]), ("page", &["2", "3"]), ("q", &["a b"])],
        headers: &[("X-API-Key", &["k"])],
        cookies: &[("s", "1"), ("t", "2")],
        vary: Vary::Only(&["s"]),
        key: "acme::/shop/{cat}/{proxy+}?cat=caf%C3%A9&proxy=a%2Fb&page=2&page=3&q=a%20b&Sort=up#auth=752629eec0a1c5b3ac4f0d2d&cookies=f1c25984f5cc191d37443ae0",
        ..PLAIN
    },
];
