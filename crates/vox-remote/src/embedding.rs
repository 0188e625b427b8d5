//! Vectors as the contract wants them: one after the other, each of length 1.

use vox_plugin::inference_backend::Embedded;

/// Checks vectors that a server sent for `count` texts of so many `tokens`, and makes each of them of length 1.
/// One that is zero stays so.
///
/// # Errors
///
/// What is wrong with them: their number, their dimensions, or a number that is none.
pub fn unit(vectors: Vec<Vec<f32>>, count: usize, tokens: u32) -> Result<Embedded, String> {
    if vectors.len() != count {
        return Err(format!(
            "it sent {} embeddings for {count} texts",
            vectors.len()
        ));
    }
    let dimensions = vectors.first().map_or(0, Vec::len);
    let mut all = Vec::with_capacity(dimensions * count);
    for (index, vector) in vectors.into_iter().enumerate() {
        if vector.len() != dimensions || vector.is_empty() {
            return Err(format!(
                "embedding {index} has {} numbers, and the first one {dimensions}",
                vector.len()
            ));
        }
        let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        if !square.is_finite() {
            return Err(format!("embedding {index} has a number that is none"));
        }
        let factor = if square > 0.0 {
            square.sqrt().recip()
        } else {
            1.0
        };
        all.extend(vector.iter().map(|x| (f64::from(*x) * factor) as f32));
    }
    Ok(Embedded {
        numbers: all,
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_get_length_one() {
        let all = unit(vec![vec![3.0, 4.0], vec![0.0, 0.0]], 2, 7).unwrap();
        assert_eq!(
            (&all.numbers[..], all.tokens),
            (&[0.6, 0.8, 0.0, 0.0][..], 7)
        );
    }

    #[test]
    fn vectors_that_do_not_fit_are_refused() {
        assert!(
            unit(vec![vec![1.0]], 2, 0)
                .unwrap_err()
                .contains("for 2 texts")
        );
        assert!(
            unit(vec![vec![1.0], vec![1.0, 2.0]], 2, 0)
                .unwrap_err()
                .contains("embedding 1")
        );
        assert!(
            unit(vec![vec![f32::NAN]], 1, 0)
                .unwrap_err()
                .contains("none")
        );
        assert!(unit(vec![vec![]], 1, 0).is_err());
    }
}
