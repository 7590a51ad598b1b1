//! How times, shares, sizes and traces are written in a scenario.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use bondwire_units::{Bitrate, ByteCount};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::link::Queue;

/// A value that is written as text, or, where it makes sense, as a bare number.
pub(crate) trait Written: Sized {
    const WHAT: &'static str;
    fn from_text(text: &str) -> Option<Self>;
    fn from_number(_number: f64) -> Option<Self> {
        None
    }
}

/// Deserialises a [`Written`] value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<T>(pub(crate) T);

impl<'de, T: Written> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData)).map(Value)
    }
}

struct ValueVisitor<T>(PhantomData<T>);

impl<T: Written> ValueVisitor<T> {
    fn number<E: Error>(number: f64) -> Result<T, E> {
        T::from_number(number).ok_or_else(|| E::custom(format_args!("`{number}` is not {}", T::WHAT)))
    }
}

impl<T: Written> Visitor<'_> for ValueVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::custom(format_args!("`{text}` is not {}", T::WHAT)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Self::number(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Self::number(number as f64)
    }
}

impl Written for Bitrate {
    const WHAT: &'static str = "a rate: write a number and a unit, such as \"20 Mbit/s\" or \"800 kbit/s\"";
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Written for Duration {
    const WHAT: &'static str =
        "a time: write a number and a unit, such as \"10 ms\", \"1.5 s\" or \"250 us\"";
    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let scale = match unit {
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "min" => 60.0,
            _ => return None,
        };
        Self::try_from_secs_f64(number * scale).ok().filter(|&span| span <= LONGEST)
    }
}

/// No time in a scenario is longer: a week.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// A probability, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(pub(crate) f64);

impl Written for Share {
    const WHAT: &'static str = "a share: write \"0.5 %\" or a number from 0 to 1";
    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        if unit == "%" { Self::from_number(number / 100.0) } else { None }
    }
    fn from_number(number: f64) -> Option<Self> {
        (0.0..=1.0).contains(&number).then_some(Self(number))
    }
}

impl Written for Queue {
    const WHAT: &'static str = "a queue: write how long the link takes to send it, such as \"800 ms\", or its size, such as \"64 kB\"";
    fn from_text(text: &str) -> Option<Self> {
        if let Some(time) = Duration::from_text(text) {
            return Some(Self::Time(time));
        }
        let (number, unit) = split(text)?;
        let scale = match unit {
            "B" => 1.0,
            "kB" => 1e3,
            "MB" => 1e6,
            _ => return None,
        };
        Some(Self::Size(ByteCount::new((number * scale) as u64)))
    }
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    Some((text[..at].parse().ok()?, text[at..].trim()))
}

/// Where a trace comes from: an array of milliseconds, or the name of a file of them.
#[derive(Clone, Debug)]
pub(crate) enum TraceSource {
    Inline(Vec<u32>),
    File(String),
}

impl<'de> Deserialize<'de> for TraceSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TraceVisitor)
    }
}

struct TraceVisitor;

impl<'de> Visitor<'de> for TraceVisitor {
    type Value = TraceSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a trace: an array of milliseconds, or the name of a file with one on each line")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<TraceSource, E> {
        Ok(TraceSource::File(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TraceSource, A::Error> {
        let mut millis = Vec::new();
        while let Some(at) = items.next_element()? {
            millis.push(at);
        }
        Ok(TraceSource::Inline(millis))
    }
}
