//! The loss curve of a training, as a table and as a picture.
//!
//! The table is a CSV file that grows by one line a step; each line is written at once, so that a
//! crash leaves at most the last one incomplete, and that one is dropped when the file is opened
//! again. A training that resumes at a checkpoint drops the steps after it, since they are computed
//! again. What must stay true: losses, rates and norms read back as the very numbers that were
//! written, so that two curves are equal exactly when the trainings were.

mod picture;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;

/// The first line of the table.
const HEADER: &str = "step,tokens,learning_rate,loss,eval_loss,grad_norm,tokens_per_second";

/// What is known after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Steps that are done, this one among them.
    pub step: u64,
    /// Tokens that were learnt from in all steps so far.
    pub tokens: u64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// Mean loss over the step's targets, in nats a token.
    pub loss: f64,
    /// Loss on the evaluation split after the step, where one was made.
    pub eval_loss: Option<f64>,
    /// Euclidean norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Speed, as it was shown; the one figure that differs from run to run.
    pub tokens_per_second: f64,
}

/// A loss curve that grows.
#[derive(Debug)]
pub struct Curve {
    path: PathBuf,
    file: File,
    points: Vec<Point>,
}

impl Curve {
    /// Opens the table at `path` for a training that goes on after step `done`; 0 begins a new one,
    /// whatever stands there. Steps after `done` are dropped.
    ///
    /// # Errors
    /// [`Error::Damaged`] when a line up to step `done` is not what was written, or one is missing;
    /// [`Error::Read`], [`Error::Write`].
    pub fn resume(path: &Path, done: u64) -> Result<Self, Error> {
        let points = if done == 0 {
            Vec::new()
        } else {
            let mut points = read(path)?;
            points.retain(|point| point.step <= done);
            if points.last().is_none_or(|last| last.step != done) {
                return Err(Error::Damaged {
                    path: path.into(),
                    message: format!(
                        "the loss curve does not reach step {done}, at which the training goes on: \
                         put the file back that belongs to the checkpoint, or begin anew"
                    ),
                });
            }
            points
        };
        let mut text = format!("{HEADER}\n");
        for point in &points {
            text.push_str(&point.line());
        }
        replace(path, text.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(Error::write(path))?;
        Ok(Self {
            path: path.into(),
            file,
            points,
        })
    }

    /// Adds a point.
    ///
    /// # Errors
    /// [`Error::Write`]; the point is then not part of the curve.
    pub fn push(&mut self, point: Point) -> Result<(), Error> {
        self.file
            .write_all(point.line().as_bytes())
            .map_err(Error::write(&self.path))?;
        self.points.push(point);
        Ok(())
    }

    /// Waits until what was added is on disk; before a checkpoint is acknowledged.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::write(&self.path))
    }

    /// All points, in the order of their steps.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Writes the picture of the curve, an SVG file, in the place of the one before.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn draw(&self, path: &Path, title: &str) -> Result<(), Error> {
        replace(path, picture::svg(&self.points, title).as_bytes())
    }
}

/// Reads a table. An incomplete last line is left out.
///
/// # Errors
/// [`Error::Read`]; [`Error::Damaged`] with the first line that is not what was written.
pub fn read(path: &Path) -> Result<Vec<Point>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let damaged = |line: usize, what: &str| Error::Damaged {
        path: path.into(),
        message: format!("line {line} of this loss curve {what}"),
    };
    let mut lines = text.split_inclusive('\n').enumerate();
    if lines
        .next()
        .is_none_or(|(_, header)| header.trim_end() != HEADER)
    {
        return Err(damaged(1, &format!("is not `{HEADER}`")));
    }
    let mut points: Vec<Point> = Vec::new();
    for (at, line) in lines {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let point = Point::parse(line).ok_or_else(|| damaged(at + 1, "is not a point"))?;
        if points.last().is_some_and(|last| last.step >= point.step) {
            return Err(damaged(at + 1, "does not go on from the one before"));
        }
        points.push(point);
    }
    Ok(points)
}

impl Point {
    /// The line of the table. Numbers are written as shortly as they read back the same.
    fn line(&self) -> String {
        let mut line = format!(
            "{},{},{},{},",
            self.step, self.tokens, self.learning_rate, self.loss
        );
        if let Some(loss) = self.eval_loss {
            // Writing to a string does not fail.
            let _ = write!(line, "{loss}");
        }
        let _ = writeln!(line, ",{},{:.1}", self.grad_norm, self.tokens_per_second);
        line
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.trim_end_matches('\r').split(',');
        let point = Self {
            step: fields.next()?.parse().ok()?,
            tokens: fields.next()?.parse().ok()?,
            learning_rate: fields.next()?.parse().ok()?,
            loss: fields.next()?.parse().ok()?,
            eval_loss: match fields.next()? {
                "" => None,
                loss => Some(loss.parse().ok()?),
            },
            grad_norm: fields.next()?.parse().ok()?,
            tokens_per_second: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(point)
    }
}

/// Puts a file with these bytes at `path`, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let written = || -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(Error::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64) -> Point {
        Point {
            step,
            tokens: 512 * step,
            learning_rate: 1e-4 / step as f64,
            loss: 10.0 / step as f64,
            eval_loss: step.is_multiple_of(3).then_some(1.0 / 3.0),
            grad_norm: 0.1 + 0.2,
            tokens_per_second: 250.0,
        }
    }

    fn written(path: &Path, steps: u64) -> Curve {
        let mut curve = Curve::resume(path, 0).unwrap();
        (1..=steps).for_each(|step| curve.push(point(step)).unwrap());
        curve
    }

    #[test]
    fn points_read_back_as_the_numbers_that_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out/loss.csv");
        let curve = written(&path, 7);
        assert_eq!(read(&path).unwrap(), curve.points());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("step,tokens,learning_rate,loss,eval_loss,"));
        assert!(text.contains("\n3,1536,0.00003333333333333333"), "{text}");
    }

    #[test]
    fn a_curve_that_is_resumed_is_the_one_that_was_never_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, stopped) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
        written(&whole, 10);
        written(&stopped, 8);
        let mut curve = Curve::resume(&stopped, 5).unwrap();
        assert_eq!(curve.points().len(), 5);
        (6..=10).for_each(|step| curve.push(point(step)).unwrap());
        assert_eq!(
            std::fs::read(&whole).unwrap(),
            std::fs::read(&stopped).unwrap()
        );
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.csv");
        written(&path, 4);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 3);
        assert_eq!(Curve::resume(&path, 3).unwrap().points().len(), 3);
    }

    #[test]
    fn a_curve_that_does_not_reach_the_checkpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.csv");
        written(&path, 4);
        let error = Curve::resume(&path, 5).unwrap_err().to_string();
        assert!(error.contains("does not reach step 5"), "{error}");
    }

    #[test]
    fn a_line_that_is_no_point_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.csv");
        for (line, at) in [("1,2,3\n", 6), ("2,1,1,1,,1,1\n", 6), ("x,1,1,1,,1,1\n", 6)] {
            written(&path, 4);
            let mut text = std::fs::read_to_string(&path).unwrap();
            text.push_str(line);
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("line {at} of this loss curve")),
                "{error}"
            );
        }
        std::fs::write(&path, "a,b\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn a_loss_that_is_no_number_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.csv");
        let mut curve = Curve::resume(&path, 0).unwrap();
        let lost = Point {
            loss: f64::NAN,
            grad_norm: f64::INFINITY,
            ..point(1)
        };
        curve.push(lost).unwrap();
        let read = read(&path).unwrap();
        assert!(read[0].loss.is_nan() && read[0].grad_norm.is_infinite());
    }

    #[test]
    fn the_picture_shows_both_losses_and_takes_the_place_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let curve = written(&dir.path().join("loss.csv"), 30);
        let path = dir.path().join("loss.svg");
        std::fs::write(&path, "old").unwrap();
        curve.draw(&path, "a <model>").unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt;model&gt;") && svg.contains("<polyline class=\"train\""));
        assert_eq!(svg.matches("<circle class=\"eval\"").count(), 10);
    }
}
