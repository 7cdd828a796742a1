//! The form of `ipvsadm -Sn`, which `ipvsadm -R` restores.

use super::{
    Family, Forward, Persistence, RealServer, Scheduler, SchedulerFlags, Settings, Table,
    VirtualAddress, VirtualServer,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::{FromStr, SplitWhitespace};

/// Seconds of persistence where `-p` names none.
const PERSISTENCE: u32 = 360;

/// A table read from text, and the lines that say something unknown here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    pub table: Table,
    pub unknown: Vec<UnknownLine>,
}

/// A line that is not in the table because not all of it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLine {
    /// From 1.
    pub line: usize,
    pub text: String,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Neither `-A` nor `-a`.
    Command,
    /// An option that is not known here, or has no value.
    Option(String),
    /// Text that is no address, number or name.
    Value(String),
    /// It does not say for which packets, or for whom.
    Incomplete,
    /// A real server of a virtual server that no line before it made.
    Unclaimed,
}

/// Reads what `ipvsadm -Sn` printed.
pub fn parse(text: &str) -> Import {
    let mut import = Import::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(problem) = read_line(line, &mut import.table) {
            let unknown = UnknownLine { line: number, text: line.to_owned(), problem };
            import.unknown.push(unknown);
        }
    }
    import
}

fn read_line(line: &str, table: &mut Table) -> Result<(), Problem> {
    let mut words = line.split_whitespace();
    let command = words.next();
    let options = Options::read(words)?;
    let virtual_address = options.virtual_address()?;
    match command {
        Some("-A" | "--add-service") => {
            let settings = options.settings(virtual_address.family())?;
            let server = VirtualServer { settings, real_servers: BTreeMap::new() };
            table.virtual_servers.insert(virtual_address, server);
        }
        Some("-a" | "--add-server") => {
            let (address, real) = options.real_server(&virtual_address)?;
            let server = table.virtual_servers.get_mut(&virtual_address);
            server.ok_or(Problem::Unclaimed)?.real_servers.insert(address, real);
        }
        _ => return Err(Problem::Command),
    }
    Ok(())
}

/// The options of a line, before it is clear what they belong to.
#[derive(Debug, Default)]
struct Options<'a> {
    /// Protocol and address.
    socket: Option<(u8, &'a str)>,
    mark: Option<u32>,
    ipv6: bool,
    scheduler: Option<&'a str>,
    timeout: Option<u32>,
    mask: Option<&'a str>,
    engine: Option<&'a str>,
    one_packet: bool,
    flags: SchedulerFlags,
    real: Option<&'a str>,
    forward: Option<Forward>,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
}

impl<'a> Options<'a> {
    fn read(words: SplitWhitespace<'a>) -> Result<Self, Problem> {
        let mut options = Options::default();
        let mut words = words.peekable();
        while let Some(option) = words.next() {
            if options.read_flag(option) {
                continue;
            }
            if matches!(option, "-p" | "--persistent") {
                let given = words.next_if(|word| !word.starts_with('-'));
                options.timeout = Some(given.map_or(Ok(PERSISTENCE), number)?);
                continue;
            }
            let value = words.next().ok_or_else(|| Problem::Option(option.to_owned()))?;
            options.read_valued(option, value)?;
        }
        Ok(options)
    }

    /// True for an option without value.
    fn read_flag(&mut self, option: &str) -> bool {
        match option {
            "-6" | "--ipv6" => self.ipv6 = true,
            "-o" | "--ops" => self.one_packet = true,
            "-m" | "--masquerading" => self.forward = Some(Forward::Masquerade),
            "-g" | "--gatewaying" => self.forward = Some(Forward::Route),
            "-i" | "--ipip" => self.forward = Some(Forward::Tunnel),
            _ => return false,
        }
        true
    }

    fn read_valued(&mut self, option: &str, value: &'a str) -> Result<(), Problem> {
        match option {
            "-t" | "--tcp-service" => self.socket = Some((6, value)),
            "-u" | "--udp-service" => self.socket = Some((17, value)),
            "--sctp-service" => self.socket = Some((132, value)),
            "-f" | "--fwmark-service" => self.mark = Some(number(value)?),
            "-s" | "--scheduler" => self.scheduler = Some(value),
            "-M" | "--netmask" => self.mask = Some(value),
            "--pe" => self.engine = Some(value),
            "-b" | "--sched-flags" => self.flags = flags(value)?,
            "-r" | "--real-server" => self.real = Some(value),
            "-w" | "--weight" => self.weight = Some(number(value)?),
            "-x" | "--u-threshold" => self.upper = number(value)?,
            "-y" | "--l-threshold" => self.lower = number(value)?,
            _ => return Err(Problem::Option(option.to_owned())),
        }
        Ok(())
    }

    fn virtual_address(&self) -> Result<VirtualAddress, Problem> {
        match (self.socket, self.mark) {
            (Some((protocol, text)), None) => {
                let address = text.parse().map_err(|_not_one| Problem::Value(text.to_owned()))?;
                Ok(VirtualAddress::Socket { protocol, address })
            }
            (None, Some(mark)) => {
                let family = if self.ipv6 { Family::Ipv6 } else { Family::Ipv4 };
                Ok(VirtualAddress::Mark { family, mark })
            }
            _ => Err(Problem::Incomplete),
        }
    }

    fn settings(&self, family: Family) -> Result<Settings, Problem> {
        let prefix = self.mask.map_or(Ok(family.whole()), |text| prefix(text, family))?;
        Ok(Settings {
            scheduler: Scheduler::from_name(self.scheduler.ok_or(Problem::Incomplete)?),
            scheduler_flags: self.flags,
            persistence: self.timeout.map(|timeout| Persistence { timeout, prefix }),
            one_packet: self.one_packet,
            engine: self.engine.map(str::to_owned),
        })
    }

    /// A real server without port has the virtual one's.
    fn real_server(
        &self,
        virtual_address: &VirtualAddress,
    ) -> Result<(SocketAddr, RealServer), Problem> {
        let text = self.real.ok_or(Problem::Incomplete)?;
        let port = match virtual_address {
            VirtualAddress::Socket { address, .. } => address.port(),
            VirtualAddress::Mark { .. } => 0,
        };
        let bare = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, port));
        let address = text.parse::<SocketAddr>().or_else(|_no_port| bare());
        let real = RealServer {
            forward: self.forward.unwrap_or(Forward::Route),
            weight: self.weight.unwrap_or(1),
            upper_threshold: self.upper,
            lower_threshold: self.lower,
        };
        Ok((address.map_err(|_not_one| Problem::Value(text.to_owned()))?, real))
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_not_one| Problem::Value(text.to_owned()))
}

fn flags(text: &str) -> Result<SchedulerFlags, Problem> {
    let mut flags = SchedulerFlags::default();
    for name in text.split(',') {
        match name {
            "sh-fallback" | "mh-fallback" | "flag-1" => flags.fallback = true,
            "sh-port" | "mh-port" | "flag-2" => flags.port = true,
            "flag-3" => flags.third = true,
            _ => return Err(Problem::Value(name.to_owned())),
        }
    }
    Ok(flags)
}

/// `255.255.255.0` for IPv4, `64` for IPv6.
fn prefix(text: &str, family: Family) -> Result<u8, Problem> {
    let wrong = || Problem::Value(text.to_owned());
    let length = match family {
        Family::Ipv4 => {
            let mask: Ipv4Addr = number(text)?;
            let length = u32::from(mask).leading_ones();
            let whole = u32::from(mask).count_ones() == length;
            u8::try_from(length).ok().filter(|_| whole).ok_or_else(wrong)?
        }
        Family::Ipv6 => number(text)?,
    };
    (1..=family.whole()).contains(&length).then_some(length).ok_or_else(wrong)
}

/// What `ipvsadm -Sn` prints, with thresholds besides.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (virtual_address, server) in &self.virtual_servers {
            let place = Place(virtual_address);
            write!(f, "-A {place} -s {}", server.settings.scheduler)?;
            write_settings(f, virtual_address.family(), &server.settings)?;
            writeln!(f)?;
            for (address, real) in &server.real_servers {
                writeln!(f, "-a {place} -r {address}{}", Real(real))?;
            }
        }
        Ok(())
    }
}

fn write_settings(f: &mut fmt::Formatter<'_>, family: Family, settings: &Settings) -> fmt::Result {
    if let Some(Persistence { timeout, prefix }) = settings.persistence {
        write!(f, " -p {timeout}")?;
        match family {
            _ if prefix == family.whole() => {}
            Family::Ipv4 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or_default();
                write!(f, " -M {}", Ipv4Addr::from(mask))?;
            }
            Family::Ipv6 => write!(f, " -M {prefix}")?,
        }
    }
    if let Some(engine) = &settings.engine {
        write!(f, " --pe {engine}")?;
    }
    if settings.one_packet {
        f.write_str(" -o")?;
    }
    let names = flag_names(&settings.scheduler, settings.scheduler_flags);
    if names.is_empty() { Ok(()) } else { write!(f, " -b {}", names.join(",")) }
}

fn flag_names(scheduler: &Scheduler, flags: SchedulerFlags) -> Vec<&'static str> {
    let [fallback, port] = match scheduler {
        Scheduler::SourceHash => ["sh-fallback", "sh-port"],
        Scheduler::MaglevHash => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let all = [(flags.fallback, fallback), (flags.port, port), (flags.third, "flag-3")];
    all.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
}

struct Place<'a>(&'a VirtualAddress);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            VirtualAddress::Socket { protocol: 17, address } => write!(f, "-u {address}"),
            VirtualAddress::Socket { protocol: 132, address } => {
                write!(f, "--sctp-service {address}")
            }
            VirtualAddress::Socket { address, .. } => write!(f, "-t {address}"),
            VirtualAddress::Mark { family: Family::Ipv4, mark } => write!(f, "-f {mark}"),
            VirtualAddress::Mark { family: Family::Ipv6, mark } => write!(f, "-f {mark} -6"),
        }
    }
}

struct Real<'a>(&'a RealServer);

impl fmt::Display for Real<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RealServer { forward, weight, upper_threshold, lower_threshold } = self.0;
        let forward = match forward {
            Forward::Masquerade => "-m",
            Forward::Tunnel => "-i",
            // What ipvsadm prints for those that cannot be asked for.
            Forward::Route | Forward::Local | Forward::Bypass => "-g",
        };
        write!(f, " {forward} -w {weight}")?;
        for (option, threshold) in [("-x", upper_threshold), ("-y", lower_threshold)] {
            if *threshold != 0 {
                write!(f, " {option} {threshold}")?;
            }
        }
        Ok(())
    }
}
