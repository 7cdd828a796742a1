//! The functions of CEL and of Kubernetes' libraries, and the fields of the objects that policies see.
//!
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions> and
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries>.

use super::Type;
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(super) struct Overload {
    pub(super) is_member: bool,
    /// The target first, where there is one.
    pub(super) arguments: Vec<Type>,
    pub(super) result: Type,
}

pub(super) fn of(name: &str) -> Option<&'static [Overload]> {
    static ALL: LazyLock<BTreeMap<&str, Vec<Overload>>> = LazyLock::new(|| {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in FUNCTIONS.lines().filter(|line| !line.is_empty()) {
            let (name, overloads) = line.split_once(": ").unwrap_or((line, ""));
            all.entry(name).or_default().extend(overloads.split("; ").filter_map(overload));
        }
        all
    });
    ALL.get(name).map(Vec::as_slice)
}

/// `target.(first second) result`
fn overload(text: &'static str) -> Option<Overload> {
    let (arguments, result) = text.rsplit_once(' ')?;
    let (target, arguments) = arguments.strip_suffix('>')?.split_once('<')?;
    let is_member = !target.is_empty();
    let arguments = target.split_whitespace().chain(arguments.split_whitespace());
    Some(Overload {
        is_member,
        arguments: arguments.map(Type::parse).collect(),
        result: Type::parse(result),
    })
}

/// `None`: there is no such field.
pub(super) fn field(object: &str, field: &str) -> Option<Type> {
    let mut lines = FIELDS.lines();
    let own = lines.find_map(|line| line.strip_prefix(object)?.strip_prefix(": "))?;
    let mut fields = own.split(' ').filter_map(|it| it.split_once('='));
    fields.find(|(name, _)| *name == field).map(|(_, kind)| Type::parse(kind))
}

const FIELDS: &str = "\
kubernetes.AdmissionRequest: kind=kubernetes.GroupVersionKind resource=kubernetes.GroupVersionResource subResource=string requestKind=kubernetes.GroupVersionKind requestResource=kubernetes.GroupVersionResource requestSubResource=string name=string namespace=string operation=string userInfo=kubernetes.UserInfo dryRun=bool options=dyn
kubernetes.GroupVersionKind: group=string version=string kind=string
kubernetes.GroupVersionResource: group=string version=string resource=string
kubernetes.UserInfo: username=string uid=string groups=list(string) extra=map(string,list(string))
kubernetes.Namespace: metadata=kubernetes.NamespaceMetadata spec=kubernetes.NamespaceSpec status=kubernetes.NamespaceStatus
kubernetes.NamespaceSpec: finalizers=list(string)
kubernetes.NamespaceStatus: conditions=list(kubernetes.NamespaceCondition) phase=string
kubernetes.NamespaceCondition: status=string type=string lastTransitionTime=timestamp message=string reason=string
kubernetes.NamespaceMetadata: name=string generateName=string namespace=string labels=map(string,string) annotations=map(string,string) UID=string creationTimestamp=timestamp deletionGracePeriodSeconds=int deletionTimestamp=timestamp generation=int resourceVersion=string finalizers=list(string)
";

/// A name, then overloads: the target's type if any, and the arguments' in `<>`, and the result's.
const FUNCTIONS: &str = "\
_?_:_: <bool A A> A
!_: <bool> bool
-_: <int> int; <double> double
_==_: <A A> bool
_!=_: <A A> bool
_<_: <bool bool> bool; <int int> bool; <int uint> bool; <int double> bool; <uint uint> bool; <uint int> bool; <uint double> bool; <double double> bool; <double int> bool; <double uint> bool; <string string> bool; <bytes bytes> bool; <timestamp timestamp> bool; <duration duration> bool
_<=_: <bool bool> bool; <int int> bool; <int uint> bool; <int double> bool; <uint uint> bool; <uint int> bool; <uint double> bool; <double double> bool; <double int> bool; <double uint> bool; <string string> bool; <bytes bytes> bool; <timestamp timestamp> bool; <duration duration> bool
_>_: <bool bool> bool; <int int> bool; <int uint> bool; <int double> bool; <uint uint> bool; <uint int> bool; <uint double> bool; <double double> bool; <double int> bool; <double uint> bool; <string string> bool; <bytes bytes> bool; <timestamp timestamp> bool; <duration duration> bool
_>=_: <bool bool> bool; <int int> bool; <int uint> bool; <int double> bool; <uint uint> bool; <uint int> bool; <uint double> bool; <double double> bool; <double int> bool; <double uint> bool; <string string> bool; <bytes bytes> bool; <timestamp timestamp> bool; <duration duration> bool
_+_: <int int> int; <uint uint> uint; <double double> double; <string string> string; <bytes bytes> bytes; <list(A) list(A)> list(A); <timestamp duration> timestamp; <duration timestamp> timestamp; <duration duration> duration
_-_: <int int> int; <uint uint> uint; <double double> double; <timestamp timestamp> duration; <timestamp duration> timestamp; <duration duration> duration
_*_: <int int> int; <uint uint> uint; <double double> double
_/_: <int int> int; <uint uint> uint; <double double> double
_%_: <int int> int; <uint uint> uint
_[_]: <list(A) int> A; <map(A,B) A> B; <optional(list(A)) int> optional(A); <optional(map(A,B)) A> optional(B)
_[?_]: <list(A) int> optional(A); <map(A,B) A> optional(B); <optional(list(A)) int> optional(A); <optional(map(A,B)) A> optional(B)
@in: <A list(A)> bool; <A map(A,B)> bool
@not_strictly_false: <bool> bool
size: <string> int; <bytes> int; <list(A)> int; <map(A,B)> int; string<> int; bytes<> int; list(A)<> int; map(A,B)<> int
type: <A> type(A)
dyn: <A> dyn
bool: <bool> bool; <string> bool
int: <int> int; <uint> int; <double> int; <string> int; <timestamp> int; <duration> int
uint: <uint> uint; <int> uint; <double> uint; <string> uint
double: <double> double; <int> double; <uint> double; <string> double
string: <string> string; <bool> string; <int> string; <uint> string; <double> string; <bytes> string; <timestamp> string; <duration> string; <net.IP> string; <net.CIDR> string
bytes: <bytes> bytes; <string> bytes
timestamp: <timestamp> timestamp; <string> timestamp; <int> timestamp
duration: <duration> duration; <string> duration; <int> duration
contains: string<string> bool
startsWith: string<string> bool
endsWith: string<string> bool
matches: <string string> bool; string<string> bool
charAt: string<int> string
indexOf: string<string> int; string<string int> int
lastIndexOf: string<string> int; string<string int> int
lowerAscii: string<> string
upperAscii: string<> string
replace: string<string string> string; string<string string int> string
split: string<string> list(string); string<string int> list(string)
substring: string<int> string; string<int int> string
trim: string<> string
reverse: string<> string; list(A)<> list(A)
join: list(string)<> string; list(string)<string> string
format: string<list(dyn)> string
strings.quote: <string> string
find: string<string> string
findAll: string<string> list(string)
isSorted: list(A)<> bool
sum: list(int)<> int; list(uint)<> uint; list(double)<> double; list(duration)<> duration
min: list(A)<> A
max: list(A)<> A
slice: list(A)<int int> list(A)
flatten: list(list(A))<> list(A); list(dyn)<int> list(dyn)
distinct: list(A)<> list(A)
sort: list(A)<> list(A)
lists.range: <int> list(int)
sets.contains: <list(A) list(A)> bool
sets.equivalent: <list(A) list(A)> bool
sets.intersects: <list(A) list(A)> bool
getFullYear: timestamp<> int; timestamp<string> int
getMonth: timestamp<> int; timestamp<string> int
getDayOfYear: timestamp<> int; timestamp<string> int
getDayOfMonth: timestamp<> int; timestamp<string> int
getDate: timestamp<> int; timestamp<string> int
getDayOfWeek: timestamp<> int; timestamp<string> int
getHours: timestamp<> int; timestamp<string> int; duration<> int
getMinutes: timestamp<> int; timestamp<string> int; duration<> int
getSeconds: timestamp<> int; timestamp<string> int; duration<> int
getMilliseconds: timestamp<> int; timestamp<string> int; duration<> int
optional.of: <A> optional(A)
optional.ofNonZeroValue: <A> optional(A)
optional.none: <> optional(A)
hasValue: optional(A)<> bool
value: optional(A)<> A
or: optional(A)<optional(A)> optional(A)
orValue: optional(A)<A> A
url: <string> kubernetes.URL
isURL: <string> bool
getScheme: kubernetes.URL<> string
getHost: kubernetes.URL<> string
getHostname: kubernetes.URL<> string
getPort: kubernetes.URL<> string
getEscapedPath: kubernetes.URL<> string

ip: <string> net.IP; net.CIDR<> net.IP
isIP: <string> bool
ip.isCanonical: <string> bool
family: net.IP<> int
isUnspecified: net.IP<> bool
isLoopback: net.IP<> bool
isLinkLocalMulticast: net.IP<> bool
isLinkLocalUnicast: net.IP<> bool
isGlobalUnicast: net.IP<> bool
cidr: <string> net.CIDR
isCIDR: <string> bool
containsIP: net.CIDR<net.IP> bool; net.CIDR<string> bool
containsCIDR: net.CIDR<net.CIDR> bool; net.CIDR<string> bool
masked: net.CIDR<> net.CIDR
prefixLength: net.CIDR<> int
quantity: <string> kubernetes.Quantity
isQuantity: <string> bool
sign: kubernetes.Quantity<> int
isInteger: kubernetes.Quantity<> bool
asInteger: kubernetes.Quantity<> int
asApproximateFloat: kubernetes.Quantity<> double
add: kubernetes.Quantity<kubernetes.Quantity> kubernetes.Quantity; kubernetes.Quantity<int> kubernetes.Quantity
sub: kubernetes.Quantity<kubernetes.Quantity> kubernetes.Quantity; kubernetes.Quantity<int> kubernetes.Quantity
isGreaterThan: kubernetes.Quantity<kubernetes.Quantity> bool; kubernetes.Semver<kubernetes.Semver> bool
isLessThan: kubernetes.Quantity<kubernetes.Quantity> bool; kubernetes.Semver<kubernetes.Semver> bool
compareTo: kubernetes.Quantity<kubernetes.Quantity> int; kubernetes.Semver<kubernetes.Semver> int
semver: <string> kubernetes.Semver
isSemver: <string> bool
major: kubernetes.Semver<> int
minor: kubernetes.Semver<> int
patch: kubernetes.Semver<> int
path: kubernetes.authorization.Authorizer<string> kubernetes.authorization.PathCheck
group: kubernetes.authorization.Authorizer<string> kubernetes.authorization.GroupCheck
serviceAccount: kubernetes.authorization.Authorizer<string string> kubernetes.authorization.Authorizer
resource: kubernetes.authorization.GroupCheck<string> kubernetes.authorization.ResourceCheck
subresource: kubernetes.authorization.ResourceCheck<string> kubernetes.authorization.ResourceCheck
namespace: kubernetes.authorization.ResourceCheck<string> kubernetes.authorization.ResourceCheck
name: kubernetes.authorization.ResourceCheck<string> kubernetes.authorization.ResourceCheck
fieldSelector: kubernetes.authorization.ResourceCheck<string> kubernetes.authorization.ResourceCheck
labelSelector: kubernetes.authorization.ResourceCheck<string> kubernetes.authorization.ResourceCheck
check: kubernetes.authorization.ResourceCheck<string> kubernetes.authorization.Decision; kubernetes.authorization.PathCheck<string> kubernetes.authorization.Decision
allowed: kubernetes.authorization.Decision<> bool
reason: kubernetes.authorization.Decision<> string
errored: kubernetes.authorization.Decision<> bool
error: kubernetes.authorization.Decision<> string
jsonpatch.escapeKey: <string> string
";
