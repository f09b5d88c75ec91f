//! How many bytes is a Kubernetes quantity? Every one that `isQuantity` admits is read, as the API server reads it. Pure.

/// The bytes, a part of one rounded up; 0 for less than none, and the most there is for more than that. None for what is no quantity.
#[must_use]
pub fn bytes(quantity: &str) -> Option<u64> {
    let is_negative = quantity.starts_with('-');
    let unsigned = quantity.strip_prefix(['+', '-']).unwrap_or(quantity);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let factor = factor(unit)?;
    let value: f64 = number.parse().ok()?;
    if is_negative {
        return Some(0);
    }
    match number.parse() {
        // Exact, where a float would be near.
        Ok(whole) if unit.is_empty() => Some(whole),
        Ok(_) | Err(_) => Some((value * factor).ceil() as u64),
    }
}

fn factor(unit: &str) -> Option<f64> {
    let power_of_ten = match unit {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        "Ki" => return Some(2_f64.powi(10)),
        "Mi" => return Some(2_f64.powi(20)),
        "Gi" => return Some(2_f64.powi(30)),
        "Ti" => return Some(2_f64.powi(40)),
        "Pi" => return Some(2_f64.powi(50)),
        "Ei" => return Some(2_f64.powi(60)),
        _ => unit.strip_prefix(['e', 'E'])?.parse().ok()?,
    };
    Some(10_f64.powi(power_of_ten))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_is_a_number_of_bytes() {
        for (quantity, expected) in [
            ("123", 123),
            ("9007199254740993", 9_007_199_254_740_993),
            ("20Gi", 20 << 30),
            ("500M", 500_000_000),
            ("1.5Ki", 1536),
            ("0.1Gi", 107_374_183),
            (".5k", 500),
            ("1.", 1),
            ("+2", 2),
            ("2e3", 2000),
            ("2E+3", 2000),
            ("1Pi", 1 << 50),
            ("1E", 1_000_000_000_000_000_000),
            ("8Ei", 1 << 63),
            ("5u", 1),
            ("1500m", 2),
            ("0", 0),
            ("-5Gi", 0),
            ("99Ei", u64::MAX),
            ("1e400", u64::MAX),
        ] {
            assert_eq!(bytes(quantity), Some(expected), "{quantity}");
        }
        for none in [
            "", "Gi", "10Gb", "1..2", ".", "1e", "1 Gi", "0x10", "--1", "NaN",
        ] {
            assert_eq!(bytes(none), None, "{none}");
        }
    }
}
