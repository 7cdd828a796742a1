//! Functions that rules may call beside those of the language: CEL's extensions of strings and lists, and Kubernetes'
//! libraries of lists, sets, regular expressions, URLs, addresses, quantities and semantic versions.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/#cel-community-libraries>. Values of Kubernetes' own types are
//! plain ones here: URLs, addresses and networks are their canonical text, quantities are numbers, versions are lists.

use crate::quantity;
use cel::extractors::This;
use cel::{Context, Env, ExecutionError, Value};
use ipnet::IpNet;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

type Text = Arc<String>;
type List = Arc<Vec<Value>>;
type Answer = Result<Value, ExecutionError>;

/// What rules are compiled with.
pub(super) fn env() -> &'static Arc<Env> {
    static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::stdlib();
        for extension in [cel::extensions::strings, cel::extensions::lists] {
            env.add_extension(extension).expect("the extensions do not clash");
        }
        Arc::new(env)
    });
    &ENV
}

/// What rules are evaluated with.
pub(super) fn context() -> Context<'static, 'static> {
    let mut context = Context::with_env(env().clone());
    lists(&mut context)
        .and_then(|()| texts(&mut context))
        .and_then(|()| networks(&mut context))
        .and_then(|()| numbers(&mut context))
        .expect("no two functions have one name");
    context
}

type Declared = Result<(), cel::DeclarationError>;

fn lists(context: &mut Context<'_, '_>) -> Declared {
    context.add_function("isSorted", |This(list): This<List>| {
        list.windows(2).all(|pair| order(&pair[0], &pair[1]) != Some(Ordering::Greater))
    })?;
    context.add_function("sum", |This(list): This<List>| sum(&list))?;
    context.add_function("min", |This(list): This<List>| extreme("min", &list, Ordering::Less))?;
    context
        .add_function("max", |This(list): This<List>| extreme("max", &list, Ordering::Greater))?;
    let holds = |all: &[Value], item: &Value| all.iter().any(|it| it == item);
    context.add_function("sets.contains", move |all: List, some: List| {
        some.iter().all(|item| holds(&all, item))
    })?;
    context.add_function("sets.equivalent", move |one: List, two: List| {
        one.iter().all(|item| holds(&two, item)) && two.iter().all(|item| holds(&one, item))
    })?;
    context.add_function("sets.intersects", move |one: List, two: List| {
        one.iter().any(|item| holds(&two, item))
    })
}

fn texts(context: &mut Context<'_, '_>) -> Declared {
    context.add_function("find", |This(text): This<Text>, pattern: Text| {
        let pattern = regex("find", &pattern)?;
        Ok::<_, ExecutionError>(string(pattern.find(&text).map_or("", |it| it.as_str())))
    })?;
    context.add_function("findAll", |This(text): This<Text>, pattern: Text| {
        let pattern = regex("findAll", &pattern)?;
        let found = pattern.find_iter(&text).map(|it| string(it.as_str()));
        Ok::<_, ExecutionError>(Value::List(Arc::new(found.collect())))
    })?;
    context.add_function("jsonpatch.escapeKey", |key: Text| {
        string(&key.replace('~', "~0").replace('/', "~1"))
    })?;
    context.add_function("isURL", |text: Text| Url::parse(&text).is_some())?;
    context.add_function("url", |text: Text| {
        Url::parse(&text).map(|_| string(&text)).ok_or_else(|| no("url", &text))
    })?;
    for (name, part) in PARTS {
        context.add_function(name, move |This(text): This<Text>| {
            Url::parse(&text).map(|url| string(part(&url))).ok_or_else(|| no(name, &text))
        })?;
    }
    Ok(())
}

fn networks(context: &mut Context<'_, '_>) -> Declared {
    context.add_function("isIP", |text: Text| address(&text).is_some())?;
    // Of a text, or of a network.
    context.add_function("ip", |This(text): This<Text>| {
        let network = || Some(text.parse::<IpNet>().ok()?.addr());
        let found = address(&text).or_else(network).ok_or_else(|| no("ip", &text))?;
        Ok::<_, ExecutionError>(string(&found.to_string()))
    })?;
    context.add_function("ip.isCanonical", |text: Text| {
        address(&text).is_some_and(|it| it.to_string() == *text)
    })?;
    context.add_function("family", |This(text): This<Text>| {
        let found = address(&text).ok_or_else(|| no("family", &text))?;
        Ok::<_, ExecutionError>(Value::Int(if found.is_ipv4() { 4 } else { 6 }))
    })?;
    for (name, test) in TESTS {
        context.add_function(name, move |This(text): This<Text>| {
            address(&text).map(|it| test(&it)).ok_or_else(|| no(name, &text))
        })?;
    }
    context.add_function("isCIDR", |text: Text| text.parse::<IpNet>().is_ok())?;
    context
        .add_function("cidr", |text: Text| net("cidr", &text).map(|it| string(&it.to_string())))?;
    context.add_function("containsIP", |This(text): This<Text>, inner: Text| {
        let (net, inner) = (net("containsIP", &text)?, address(&inner));
        Ok::<_, ExecutionError>(Value::Bool(inner.is_some_and(|it| net.contains(&it))))
    })?;
    context.add_function("containsCIDR", |This(text): This<Text>, inner: Text| {
        let (outer, inner) = (net("containsCIDR", &text)?, net("containsCIDR", &inner)?);
        Ok::<_, ExecutionError>(Value::Bool(outer.contains(&inner)))
    })?;
    context.add_function("masked", |This(text): This<Text>| {
        net("masked", &text).map(|it| string(&it.trunc().to_string()))
    })?;
    context.add_function("prefixLength", |This(text): This<Text>| {
        net("prefixLength", &text).map(|it| Value::Int(it.prefix_len().into()))
    })
}

fn numbers(context: &mut Context<'_, '_>) -> Declared {
    context.add_function("isQuantity", |text: Text| quantity::parse_text(&text).is_some())?;
    context.add_function("quantity", |text: Text| {
        quantity::parse_text(&text).map(Value::Float).ok_or_else(|| no("quantity", &text))
    })?;
    context.add_function("sign", |This(number): This<f64>| {
        Value::Int(i64::from(number > 0.0) - i64::from(number < 0.0))
    })?;
    context.add_function("asInteger", |This(number): This<f64>| whole(number))?;
    for (name, sign) in [("add", 1.0), ("sub", -1.0)] {
        context.add_function(name, move |This(one): This<f64>, two: Value| {
            let two = plain(&two).ok_or_else(|| no(name, "quantity"))?;
            Ok::<_, ExecutionError>(Value::Float(one + sign * two))
        })?;
    }
    context.add_function("isInteger", |This(number): This<f64>| number.fract() == 0.0)?;
    context.add_function("asApproximateFloat", |This(number): This<f64>| number)?;
    context.add_function("isSemver", |text: Text| version(&text).is_some())?;
    context.add_function("semver", |text: Text| {
        version(&text).map(|it| Value::List(Arc::new(it))).ok_or_else(|| no("semver", &text))
    })?;
    for (at, name) in ["major", "minor", "patch"].into_iter().enumerate() {
        context.add_function(name, move |This(version): This<List>| {
            version.get(at).cloned().ok_or_else(|| no(name, "version"))
        })?;
    }
    for (name, wanted) in [("isGreaterThan", Ordering::Greater), ("isLessThan", Ordering::Less)] {
        context.add_function(name, move |This(one): This<Value>, two: Value| {
            compare(name, &one, &two).map(|found| Value::Bool(found == wanted))
        })?;
    }
    context.add_function("compareTo", |This(one): This<Value>, two: Value| {
        compare("compareTo", &one, &two).map(|found| Value::Int(found as i64))
    })
}

/// A quantity, or a number beside one.
fn plain(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Int(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A quantity without a fraction.
fn whole(number: f64) -> Answer {
    let text = number.to_string();
    text.parse().map(Value::Int).map_err(|_fraction| no("asInteger", &text))
}

fn string(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn no(function: &str, text: &str) -> ExecutionError {
    ExecutionError::function_error(function, format!("{text:?} is of the wrong form"))
}

fn order(one: &Value, two: &Value) -> Option<Ordering> {
    one.partial_cmp(two)
}

/// Versions are lists of numbers, compared from the left.
fn compare(function: &'static str, one: &Value, two: &Value) -> Result<Ordering, ExecutionError> {
    let failed = || ExecutionError::function_error(function, "the values cannot be compared");
    match (one, two) {
        (Value::List(one), Value::List(two)) => {
            let mut pairs = one.iter().zip(two.iter());
            let first = pairs.find_map(|(a, b)| order(a, b).filter(|it| it.is_ne()));
            Ok(first.unwrap_or(Ordering::Equal))
        }
        _ => order(one, two).ok_or_else(failed),
    }
}

fn sum(list: &[Value]) -> Answer {
    let add = |sum: Value, item: &Value| match (sum, item) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
        (Value::UInt(a), Value::UInt(b)) => a.checked_add(*b).map(Value::UInt),
        (Value::Float(a), Value::Float(b)) => Some(Value::Float(a + b)),
        _ => None,
    };
    let first = match list.first() {
        Some(Value::UInt(_)) => Value::UInt(0),
        Some(Value::Float(_)) => Value::Float(0.0),
        _ => Value::Int(0),
    };
    let sum = list.iter().try_fold(first, add);
    sum.ok_or_else(|| ExecutionError::function_error("sum", "the items cannot be added"))
}

fn extreme(function: &'static str, list: &[Value], wanted: Ordering) -> Answer {
    let mut items = list.iter();
    let first = items.next().cloned();
    let first =
        first.ok_or_else(|| ExecutionError::function_error(function, "the list is empty"))?;
    let better = |best: Value, item: &Value| {
        if order(item, &best) == Some(wanted) { item.clone() } else { best }
    };
    Ok(items.fold(first, better))
}

fn regex(function: &'static str, pattern: &str) -> Result<regex::Regex, ExecutionError> {
    let failed = |error: regex::Error| ExecutionError::function_error(function, error.to_string());
    regex::Regex::new(pattern).map_err(failed)
}

/// Neither IPv4 within IPv6 nor zones.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!mapped).then_some(address)
}

fn net(function: &str, text: &str) -> Result<IpNet, ExecutionError> {
    text.parse().map_err(|_wrong| no(function, text))
}

type Test = fn(&IpAddr) -> bool;

const TESTS: [(&str, Test); 5] = [
    ("isUnspecified", IpAddr::is_unspecified),
    ("isLoopback", IpAddr::is_loopback),
    ("isLinkLocalMulticast", |it| match it {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }),
    ("isLinkLocalUnicast", |it| match it {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }),
    ("isGlobalUnicast", |it| {
        let special = it.is_unspecified() || it.is_loopback() || it.is_multicast();
        let local = match it {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        !special && !local
    }),
];

/// An absolute URL, or a path.
struct Url<'a> {
    scheme: &'a str,
    /// Host and port.
    authority: &'a str,
    path: &'a str,
}

type Part = for<'a> fn(&Url<'a>) -> &'a str;

const PARTS: [(&str, Part); 5] = [
    ("getScheme", |url| url.scheme),
    ("getHost", |url| url.authority),
    ("getHostname", |url| url.host_and_port().0),
    ("getPort", |url| url.host_and_port().1),
    ("getEscapedPath", |url| url.path),
];

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let plain = text.split(['?', '#']).next()?;
        if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return None;
        }
        let Some((scheme, rest)) = plain.split_once("://") else {
            return plain.starts_with('/').then_some(Self {
                scheme: "",
                authority: "",
                path: plain,
            });
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let good = scheme.starts_with(|it: char| it.is_ascii_alphabetic())
            && scheme.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it));
        good.then_some(Self { scheme, authority, path })
    }

    fn host_and_port(&self) -> (&'a str, &'a str) {
        let bare = self.authority.strip_prefix('[').and_then(|it| it.split_once(']'));
        if let Some((host, rest)) = bare {
            return (host, rest.strip_prefix(':').unwrap_or_default());
        }
        self.authority.split_once(':').unwrap_or((self.authority, ""))
    }
}

/// Major, minor and patch, and how far a version before the release is from it.
fn version(text: &str) -> Option<Vec<Value>> {
    let plain = text.split('+').next()?;
    let (numbers, before) = plain.split_once('-').map_or((plain, None), |(a, b)| (a, Some(b)));
    let number = |it: &str| {
        let canonical = it == "0" || !it.starts_with('0');
        it.parse().ok().filter(|_| canonical && !it.starts_with('+')).map(Value::Int)
    };
    let mut parts: Vec<Value> = numbers.split('.').map(number).collect::<Option<_>>()?;
    if parts.len() != 3 || before == Some("") {
        return None;
    }
    parts.push(Value::Int(i64::from(before.is_none())));
    parts.extend(before.map(string));
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_answer_as_kubernetes_documents_them() {
        for rule in [
            "'a,b'.split(',') == ['a', 'b']",
            "'hello'.substring(1, 3) == 'el'",
            "'Hello'.lowerAscii() == 'hello'",
            "['a', 'b'].join('-') == 'a-b'",
            "' x '.trim() == 'x'",
            "'abc'.charAt(1) == 'b' && 'abc'.indexOf('c') == 2",
            "'%s-%d'.format(['a', 1]) == 'a-1'",
            "[1, 2, 2].isSorted() && ![2, 1].isSorted()",
            "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [3, 1].max() == 3",
            "sets.contains([1, 2], [2]) && !sets.contains([1], [2])",
            "sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1, 2], [2, 3])",
            "'abc 123'.find('[0-9]+') == '123' && '1 2'.findAll('[0-9]') == ['1', '2']",
            "isURL('https://a.b:80/c?d') && !isURL('a.b')",
            "url('https://a.b:80/c?d').getHost() == 'a.b:80'",
            "url('https://[::1]:80/c').getHostname() == '::1' && url('https://a:80/').getPort() == '80'",
            "url('https://a.b/c%20d?x').getEscapedPath() == '/c%20d'",
            "isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.256') && !isIP('::ffff:1.2.3.4')",
            "ip('127.0.0.1').family() == 4 && ip('::1').isLoopback()",
            "ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')",
            "ip('2001:DB8::1') == ip('2001:db8::1') && ip('8.8.8.8').isGlobalUnicast()",
            "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33')",
            "cidr('10.0.0.0/8').containsIP('10.1.1.1') && !cidr('10.0.0.0/8').containsIP('11.0.0.1')",
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8')",
            "cidr('10.1.0.0/8').prefixLength() == 8 && cidr('10.1.0.0/8').ip() == ip('10.1.0.0')",
            "isQuantity('1.5Gi') && !isQuantity('1.5Xi') && quantity('1000m') == quantity('1')",
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1').compareTo(quantity('2')) == -1",
            "isSemver('1.2.3-rc.1') && !isSemver('v1.2.3') && !isSemver('1.2')",
            "semver('1.10.0').isGreaterThan(semver('1.9.9')) && semver('1.2.3').minor() == 2",
            "semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))",
            "duration('1h') > duration('10s') && duration('0s') == duration('0h')",
            "timestamp('2026-01-01T00:00:00Z') < timestamp('2026-01-01T00:00:01Z')",
            "[1, 2].exists_one(x, x == 2) && {'a': 1}.all(k, k == 'a') && type(1) == int",
            "optional.of(1).hasValue() && {'a': 1}.?b.orValue(2) == 2",
        ] {
            let program = env().compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
            let answer = program.execute(&context());
            assert_eq!(answer, Ok(Value::Bool(true)), "{rule}");
        }
    }
}
