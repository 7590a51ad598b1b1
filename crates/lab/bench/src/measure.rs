use std::panic::{AssertUnwindSafe, catch_unwind};

use bondwire_netns::traffic::Direction;
use bondwire_scenario::Scenario;

use crate::machine::{Conditions, CpuTime, conditions};
use crate::rows::Row;
use crate::{BenchError, Figure, Machine, Measurement, Plan, Report, Settings, Stand};

/// Measures all that the plan asks for, and tells on stderr how far it is. `notes` go into the report: what was left out.
pub fn run(plan: &Plan, notes: Vec<String>) -> Report {
    let mut report = Report::new(Machine::here(), plan, notes);
    for scenario in &plan.scenarios {
        let rows: Vec<&Row> =
            plan.rows.iter().filter(|row| plan.rows_named || (row.is_for)(scenario)).copied().collect();
        for number in 0..plan.runs {
            let mut scenario = scenario.clone();
            scenario.seed += number as u64;
            let mut stand = None;
            for direction in &plan.directions {
                for row in &rows {
                    eprintln!("{} {} {}, run {}", scenario.name, word(*direction), row.name, number + 1);
                    let measurement = measure(&mut stand, &scenario, &plan.settings, *direction, row);
                    tell(&measurement);
                    report.measurements.push(measurement);
                }
            }
        }
    }
    report
}

/// One row once. A stand that a failed row leaves behind is not used again.
fn measure(
    stand: &mut Option<Stand>,
    scenario: &Scenario,
    settings: &Settings,
    direction: Direction,
    row: &Row,
) -> Measurement {
    let mut conditions = Conditions { cpu_idle: 1.0, ..Conditions::default() };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let stand = stand.get_or_insert_with(|| Stand::build(scenario, settings));
        watched(stand, &mut conditions, |stand| (row.run)(stand, direction))
    }));
    let result = result.unwrap_or_else(|panic| Err(BenchError::GaveUp(words(panic.as_ref()))));
    if result.is_err() {
        // Its drop ends what runs on it, however that stands.
        let _ = catch_unwind(AssertUnwindSafe(|| *stand = None));
    }
    let (figures, failure) = match result {
        Ok(figures) => (figures, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Measurement {
        profile: scenario.name.clone(),
        direction: word(direction),
        row: row.name,
        figures,
        conditions,
        failure,
    }
}

/// Notes how late the emulator was and what the processors had left meanwhile.
fn watched(
    stand: &mut Stand,
    noted: &mut Conditions,
    job: impl FnOnce(&mut Stand) -> Result<Vec<Figure>, BenchError>,
) -> Result<Vec<Figure>, BenchError> {
    let emulator = stand.lab().emulator().clone();
    emulator.reset_lateness()?;
    let (dropped, before) = (emulator.report()?.overload_drops(), CpuTime::now());
    let result = job(stand);
    *noted = conditions(&emulator.report()?, dropped, before);
    result
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    }
}

/// What a panic says.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").lines().next().unwrap_or_default().to_owned()
}

pub(crate) fn tell(measurement: &Measurement) {
    for Figure { name, value, unit, target } in &measurement.figures {
        let value = value.map_or("n/a".to_owned(), |value| unit.show(value));
        let target =
            target.map_or(String::new(), |target| format!("  (target {})", unit.show(target.value())));
        eprintln!("  {name}: {value}{target}");
    }
    if let Some(failure) = &measurement.failure {
        eprintln!("  failed: {failure}");
    }
    let Conditions { late_us_p99, dropped, cpu_idle, .. } = measurement.conditions;
    eprintln!("  emulator p99 {late_us_p99} us late, {dropped} dropped, CPU {:.0} % idle", cpu_idle * 100.0);
}
