//! The output: what was measured in all rounds, as tables in Markdown. The first one says it all in one screen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    beside::Contender as _,
    programs::Kind,
    workloads::{ALL, Quantity, Way, Workload},
};

/// The program that the others are compared with.
pub const BASE: Kind = Kind::Nginx;

/// What was measured.
#[derive(Default)]
pub struct Results {
    values: BTreeMap<(&'static str, Quantity, Kind), Vec<f64>>,
    failed: BTreeSet<(&'static str, Kind)>,
}

/// A row of a table: its name, and what it shows.
struct Row {
    title: String,
    workload: &'static Workload,
    quantity: Quantity,
}

impl Results {
    pub fn add(&mut self, workload: &Workload, kind: Kind, values: &[(Quantity, f64)]) {
        for (quantity, value) in values {
            self.values.entry((workload.name, *quantity, kind)).or_default().push(*value);
        }
    }

    pub fn fail(&mut self, workload: &Workload, kind: Kind) {
        self.failed.insert((workload.name, kind));
    }

    pub fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    pub fn print(&self) {
        self.print_dropped();
        println!(
            "- Each cell: the median of the rounds; ± half of the range between the lowest and the highest of them; in brackets, the"
        );
        println!("  ratio to {}.", BASE.name());
        self.table("CPU per request, µs", &rows(requests, Quantity::Cpu, ""));
        self.table("Requests per second, on one core", &rows(requests, Quantity::Rate, ""));
        let growing = [(Quantity::Cpu, "CPU per request, µs: "), (Quantity::Rate, "requests per second: ")];
        let growing: Vec<Row> = growing.iter().flat_map(|(quantity, title)| rows(scaling, *quantity, title)).collect();
        self.table("100 bytes, keep-alive, as something grows", &growing);
        self.table("Latency at half load, open loop, ms", &self.found_rows(|way| matches!(way, Way::Latency(_))));
        self.table("Memory of idle connections", &self.found_rows(|way| matches!(way, Way::Memory { .. })));
        self.table("Other", &self.found_rows(|way| matches!(way, Way::Syscalls | Way::Workers)));
    }

    /// Rows of all that was measured in these ways.
    fn found_rows(&self, wanted: fn(&Way) -> bool) -> Vec<Row> {
        let mut found = Vec::new();
        for workload in ALL.iter().filter(|workload| wanted(&workload.way)) {
            let quantities = self.values.keys().filter(|(name, ..)| *name == workload.name).map(|(_, quantity, _)| *quantity);
            for quantity in BTreeSet::from_iter(quantities) {
                found.push(Row { title: title(workload, quantity), workload, quantity });
            }
        }
        found
    }

    /// Only rows and columns with something in them.
    fn table(&self, title: &str, rows: &[Row]) {
        let rows: Vec<&Row> = rows.iter().filter(|row| Kind::ALL.iter().any(|kind| self.cell(row, *kind).is_some())).collect();
        let columns: Vec<Kind> =
            Kind::ALL.iter().copied().filter(|kind| rows.iter().any(|row| self.cell(row, *kind).is_some())).collect();
        if rows.is_empty() {
            return;
        }
        let names: Vec<&str> = columns.iter().map(|kind| kind.name()).collect();
        println!("\n| {title} | {} |", names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len()));
        for row in rows {
            let cells: Vec<String> = columns.iter().map(|kind| self.cell(row, *kind).unwrap_or_default()).collect();
            println!("| {} | {} |", row.title, cells.join(" | "));
        }
    }

    fn cell(&self, row: &Row, kind: Kind) -> Option<String> {
        let name = row.workload.name;
        if let Some(summary) = self.summary(name, row.quantity, kind) {
            return Some(summary.show(row.quantity, (kind != BASE).then(|| self.summary(name, row.quantity, BASE)).flatten()));
        }
        if row.quantity == Quantity::Rate
            && let Some(summary) = self.summary(name, Quantity::AtLeast, kind)
        {
            return Some(format!("≥ {}", show(Quantity::Rate, summary.median)));
        }
        self.failed.contains(&(name, kind)).then(|| "failed".to_owned())
    }

    fn summary(&self, workload: &'static str, quantity: Quantity, kind: Kind) -> Option<Summary> {
        let mut values = self.values.get(&(workload, quantity, kind))?.clone();
        values.sort_by(f64::total_cmp);
        let (count, lowest, highest) = (values.len(), values[0], values[values.len() - 1]);
        let median = (values[(count - 1) / 2] + values[count / 2]) / 2.0;
        Some(Summary { median, range: (count > 1).then_some(highest - lowest) })
    }

    /// Rounds whose rate says more of the load than of the program.
    fn print_dropped(&self) {
        let count = |wanted: Quantity| -> usize {
            self.values.iter().filter(|((_, quantity, _), _)| *quantity == wanted).map(|(_, values)| values.len()).sum()
        };
        let (counted, dropped) = (count(Quantity::Rate), count(Quantity::AtLeast));
        if dropped > 0 {
            let all = counted + dropped;
            println!(
                "- Rates: {dropped} of {all} rounds are dropped, in which the program was not the bottleneck; `≥` where no round is left"
            );
        }
    }
}

/// Of the values of all rounds.
struct Summary {
    median: f64,
    range: Option<f64>,
}

impl Summary {
    fn show(&self, quantity: Quantity, base: Option<Summary>) -> String {
        if self.median.is_infinite() {
            return "overloaded".to_owned();
        }
        let mut shown = show(quantity, self.median);
        if let Some(range) = self.range.filter(|range| range.is_finite() && self.median > 0.0) {
            shown += &format!(" ±{:.0} %", range / 2.0 / self.median * 100.0);
        }
        if let Some(base) = base.filter(|base| base.median.is_finite() && base.median > 0.0) {
            shown += &format!(" ({:.2})", self.median / base.median);
        }
        shown
    }
}

fn requests(way: &Way) -> bool {
    matches!(way, Way::Requests(_))
}

fn scaling(way: &Way) -> bool {
    matches!(way, Way::Scaling(_))
}

fn rows(wanted: fn(&Way) -> bool, quantity: Quantity, before: &str) -> Vec<Row> {
    let workloads = ALL.iter().filter(|workload| wanted(&workload.way));
    workloads.map(|workload| Row { title: format!("{before}{}", workload.title), workload, quantity }).collect()
}

fn title(workload: &Workload, quantity: Quantity) -> String {
    let of = workload.title;
    match quantity {
        Quantity::Latency(500) => format!("median, {of}"),
        Quantity::Latency(share) => format!("p{}, {of}", f64::from(share) / 10.0),
        Quantity::Memory(connections) => format!("MB with {} connections, {of}", grouped(connections as f64)),
        Quantity::PerConnection => format!("kB per connection, {of}"),
        Quantity::Syscalls => of.to_owned(),
        Quantity::UnpinnedCpu(workers) => format!("CPU per request, not pinned, workers: {workers}, µs"),
        Quantity::UnpinnedRate(workers) => format!("requests per second, not pinned, workers: {workers}"),
        Quantity::Speedup => "two workers over one, as a ratio".to_owned(),
        Quantity::Cpu | Quantity::Rate | Quantity::AtLeast => of.to_owned(),
    }
}

/// In the unit of the tables.
pub fn show(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::Rate | Quantity::AtLeast | Quantity::UnpinnedRate(_) => grouped(value),
        Quantity::Cpu | Quantity::UnpinnedCpu(_) if value >= 1e-3 => grouped(value * 1e6),
        Quantity::Cpu | Quantity::UnpinnedCpu(_) => format!("{:.1}", value * 1e6),
        Quantity::Latency(_) => format!("{:.3}", value * 1e3),
        Quantity::Memory(_) => format!("{:.1}", value / 1e6),
        Quantity::PerConnection => format!("{:.1}", value / 1e3),
        Quantity::Syscalls | Quantity::Speedup => format!("{value:.2}"),
    }
}

/// Without decimals, and with commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}
