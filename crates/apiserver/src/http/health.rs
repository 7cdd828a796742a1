//! `/healthz`, `/livez` and `/readyz`: one word, or a line for each check.

use super::reply::Reply;
use crate::error::Error;
use hyper::Uri;

/// What the real server's checks of these names stand for is done before this one answers anything.
const CHECKS: [&str; 5] = [
    "ping",
    "log",
    "etcd",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
];

pub(super) fn answer(uri: &Uri) -> Result<Reply, Error> {
    let text = words(uri.path(), uri.query().unwrap_or_default()).ok_or(Error::NoPage)?;
    Ok(Reply::bytes(text.into()).media("text/plain; charset=utf-8"))
}

/// None where the path names a check that there is not.
fn words(path: &str, query: &str) -> Option<String> {
    let (endpoint, check) = path.trim_matches('/').split_once('/').unwrap_or((path, ""));
    if !check.is_empty() {
        return CHECKS.contains(&check).then(|| "ok".to_owned());
    }
    let wishes: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    if !wishes.iter().any(|(name, _)| name == "verbose") {
        return Some("ok".to_owned());
    }
    let excluded = |check: &str| wishes.iter().any(|(name, it)| name == "exclude" && it == check);
    let line = |check: &&str| match excluded(check) {
        true => format!("[+]{check} excluded: ok\n"),
        false => format!("[+]{check} ok\n"),
    };
    let lines: String = CHECKS.iter().map(line).collect();
    Some(format!("{lines}{} check passed\n", endpoint.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_a_word_or_a_line_for_each_check() {
        let rows = [
            ("/healthz", "", Some("ok")),
            ("/readyz/", "exclude=etcd", Some("ok")),
            ("/livez/etcd", "", Some("ok")),
            ("/livez/poststarthook/rbac/bootstrap-roles", "", Some("ok")),
            ("/livez/nosuch", "", None),
        ];
        for (path, query, expected) in rows {
            assert_eq!(words(path, query).as_deref(), expected, "{path}?{query}");
        }
        let lines = words("/livez", "verbose&exclude=etcd").expect("it is there");
        assert!(lines.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"), "{lines}");
        assert!(lines.ends_with("\nlivez check passed\n"), "{lines}");
    }
}
