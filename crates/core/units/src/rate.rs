use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Mul, Sub, SubAssign};
use core::str::FromStr;
use core::time::Duration;

/// A rate in bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bitrate(u64);

impl Bitrate {
    /// No rate at all.
    pub const ZERO: Self = Self(0);

    /// A rate of `bps` bits per second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// A rate of `mbps` million bits per second.
    pub fn from_mbps(mbps: f64) -> Self {
        Self((mbps * 1e6).max(0.0) as u64)
    }

    /// The rate at which `bytes` pass in `span`; zero if `span` is zero.
    pub fn from_bytes_over(bytes: ByteCount, span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos == 0 {
            return Self::ZERO;
        }
        let bits = u128::from(bytes.get()) * 8 * 1_000_000_000;
        Self(u64::try_from(bits / nanos).unwrap_or(u64::MAX))
    }

    /// Bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// Million bits per second.
    pub fn as_mbps(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// How long `bytes` take at this rate; [`Duration::MAX`] at rate zero.
    pub fn time_for(self, bytes: ByteCount) -> Duration {
        if self.0 == 0 {
            return Duration::MAX;
        }
        let nanos = u128::from(bytes.get()) * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes pass in `span` at this rate.
    pub fn bytes_in(self, span: Duration) -> ByteCount {
        let bytes = u128::from(self.0) * span.as_nanos() / 8 / 1_000_000_000;
        ByteCount::new(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

impl Add for Bitrate {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Mul<f64> for Bitrate {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).max(0.0) as u64)
    }
}

impl Sum for Bitrate {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bps = self.0 as f64;
        if bps >= 1e9 {
            write!(f, "{:.2} Gbit/s", bps / 1e9)
        } else if bps >= 1e6 {
            write!(f, "{:.1} Mbit/s", bps / 1e6)
        } else {
            write!(f, "{:.0} kbit/s", bps / 1e3)
        }
    }
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate: write a number and a unit, such as `20 Mbit/s`, `800 kbit/s` or `1.5 Gbit/s`")]
pub struct ParseBitrateError(String);

impl FromStr for Bitrate {
    type Err = ParseBitrateError;

    /// Parses `20 Mbit/s`, `800 kbit/s`, `1.5Gbit/s`, `9600 bit/s`, and in short `20M`, `800k`, `1.5G`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseBitrateError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(fail)?;
        let (number, unit) = trimmed.split_at(split);
        let number: f64 = number.parse().map_err(|_| fail())?;
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "bit/s" | "bps" => 1.0,
            "kbit/s" | "kbps" | "kbit" | "k" => 1e3,
            "mbit/s" | "mbps" | "mbit" | "m" => 1e6,
            "gbit/s" | "gbps" | "gbit" | "g" => 1e9,
            _ => return Err(fail()),
        };
        Ok(Self((number * scale) as u64))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(u64);

impl ByteCount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This less `other`, at least zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<usize> for ByteCount {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

impl Add for ByteCount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for ByteCount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for ByteCount {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl SubAssign for ByteCount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul<f64> for ByteCount {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).max(0.0) as u64)
    }
}

impl Sum for ByteCount {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        if bytes >= 1e9 {
            write!(f, "{:.2} GB", bytes / 1e9)
        } else if bytes >= 1e6 {
            write!(f, "{:.1} MB", bytes / 1e6)
        } else if bytes >= 1e3 {
            write!(f, "{:.1} kB", bytes / 1e3)
        } else {
            write!(f, "{} B", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_agree() {
        let rate: Bitrate = "12 Mbit/s".parse().unwrap();
        let size = ByteCount::new(1500);
        assert_eq!(rate.time_for(size), Duration::from_millis(1));
        assert_eq!(rate.bytes_in(Duration::from_millis(1)), size);
        assert_eq!("12M".parse(), Ok(rate));
        assert_eq!(Bitrate::from_bytes_over(size, Duration::from_millis(1)), rate);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "20", "fast", "20 Mbyte/s", "-3 Mbit/s"] {
            assert!(text.parse::<Bitrate>().is_err(), "{text}");
        }
    }
}
