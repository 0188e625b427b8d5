//! Both ends of a call: encoding arguments and reading the reply, decoding arguments and filling
//! the reply. The code that `vox-plugin-macros` generates is made of these pieces.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Buffer, Number, Slice, Status};

/// Bytes of an encoded argument that fit without an allocation.
const INLINE: usize = 192;

/// An argument in its postcard encoding; small ones stay on the stack.
pub struct Encoded {
    inline: [u8; INLINE],
    length: usize,
    spilled: Vec<u8>,
}

impl Encoded {
    /// Encodes `value`.
    ///
    /// # Panics
    ///
    /// Only if the value's `Serialize` fails, which those generated from the contract cannot.
    #[inline]
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Self {
        let mut encoded = Self {
            inline: [0; INLINE],
            length: 0,
            spilled: Vec::new(),
        };
        match postcard::to_slice(value, &mut encoded.inline) {
            Ok(written) => encoded.length = written.len(),
            Err(_) => encoded.spilled = encode(value),
        }
        encoded
    }

    /// The encoding, for one call.
    #[inline]
    pub fn slice(&self) -> Slice {
        if self.spilled.is_empty() {
            Slice::new(&self.inline[..self.length])
        } else {
            Slice::new(&self.spilled)
        }
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("contract types are plain data, which postcard encodes")
}

/// A number, `bool` or `char`: it crosses as its little-endian bytes.
pub trait Scalar: Sized {
    /// The bytes.
    type Bytes: AsRef<[u8]>;
    /// The bytes of a value.
    fn to_bytes(self) -> Self::Bytes;
    /// The value of bytes; `None` when they are none of this type's.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Scalar for $number {
            type Bytes = [u8; size_of::<$number>()];

            #[inline]
            fn to_bytes(self) -> Self::Bytes {
                self.to_le_bytes()
            }

            #[inline]
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl Scalar for bool {
    type Bytes = [u8; 1];

    #[inline]
    fn to_bytes(self) -> [u8; 1] {
        [self.into()]
    }

    #[inline]
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl Scalar for char {
    type Bytes = [u8; 4];

    #[inline]
    fn to_bytes(self) -> [u8; 4] {
        u32::from(self).to_bytes()
    }

    #[inline]
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_u32(u32::from_bytes(bytes)?)
    }
}

/// Decodes one value that must take up all of `bytes`.
///
/// # Errors
///
/// What is wrong with the bytes, in words.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(Malformed(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(Malformed(error.to_string())),
    }
}

/// A value with byte lists in it. As a reply it crosses with the lists beside its encoding: serde
/// knows a `Vec<u8>` only as a sequence, which costs a call for every byte at either end.
///
/// The encoding of a reply is the postcard encoding of the value with its lists emptied, then each
/// list as its length (`u64`, little-endian) and its bytes, in the order in which
/// [`Bulk::each`] comes to them.
pub trait Bulk {
    /// Visits every byte list in the value, the same ones in the same order whether they are full
    /// or empty.
    fn each(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>));
}

impl Bulk for Vec<u8> {
    #[inline]
    fn each(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>)) {
        visit(self);
    }
}

impl<T: Bulk> Bulk for Vec<T> {
    fn each(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>)) {
        for value in self {
            value.each(visit);
        }
    }
}

impl<T: Bulk> Bulk for Option<T> {
    #[inline]
    fn each(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>)) {
        if let Some(value) = self {
            value.each(visit);
        }
    }
}

/// Decodes a value with the byte lists beside it, which must take up all of `bytes`.
///
/// # Errors
///
/// What is wrong with the bytes, in words.
pub fn decode_bulk<T: DeserializeOwned + Bulk>(bytes: &[u8]) -> Result<T, Malformed> {
    let (mut value, mut rest) =
        postcard::take_from_bytes::<T>(bytes).map_err(|error| Malformed(error.to_string()))?;
    let mut is_short = false;
    value.each(&mut |list| match take_list(&mut rest) {
        Some(bytes) => *list = bytes.to_vec(),
        None => is_short = true,
    });
    match rest {
        _ if is_short => Err(Malformed("a list ends before its length says".to_owned())),
        [] => Ok(value),
        rest => Err(Malformed(format!("{} bytes too many", rest.len()))),
    }
}

/// Takes a length and as many bytes off the front.
fn take_list<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (list, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(list)
}

/// Bytes that are not what the contract says.
#[derive(Debug)]
pub struct Malformed(pub String);

/// The arguments of a call that is being served.
#[derive(Clone, Copy)]
pub struct Arguments<'a>(&'a [Slice]);

impl<'a> Arguments<'a> {
    /// The bytes of a `list<u8>`.
    ///
    /// # Errors
    ///
    /// The caller passed too few arguments.
    #[inline]
    pub fn bytes(self, index: usize) -> Result<&'a [u8], Malformed> {
        let slice = self.0.get(index).ok_or_else(|| self.missing(index))?;
        // SAFETY: `serve` promises that the slices are valid for the call, which `'a` is within.
        Ok(unsafe { slice.bytes() })
    }

    /// A `string`.
    ///
    /// # Errors
    ///
    /// The argument is missing or not UTF-8.
    #[inline]
    pub fn text(self, index: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(index)?)
            .map_err(|error| Malformed(format!("argument {index}: {error}")))
    }

    /// A list of numbers.
    ///
    /// # Errors
    ///
    /// The argument is missing, no whole number of them, or not aligned.
    #[inline]
    pub fn numbers<T: Number>(self, index: usize) -> Result<&'a [T], Malformed> {
        let bytes = self.bytes(index)?;
        let count = count_of::<T>(index, bytes)?;
        // SAFETY: aligned, as long as it says, and of a type of which all bits are values.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) })
    }

    /// Numbers that the callee changes where they lie.
    ///
    /// # Safety
    ///
    /// The caller must have passed them as [`Slice::of_exchanged`], and this must be asked for once.
    ///
    /// # Errors
    ///
    /// As [`Arguments::numbers`].
    #[inline]
    pub unsafe fn exchanged(self, index: usize) -> Result<&'a mut [f32], Malformed> {
        let slice = *self.0.get(index).ok_or_else(|| self.missing(index))?;
        // SAFETY: `serve` promises that the slices are valid for the call, which `'a` is within.
        let count = count_of::<f32>(index, unsafe { slice.bytes() })?;
        // SAFETY: aligned, as long as it says, and lent to be changed by nobody else.
        Ok(unsafe { std::slice::from_raw_parts_mut(slice.data.cast_mut().cast(), count) })
    }

    /// A number, `bool` or `char`.
    ///
    /// # Errors
    ///
    /// The argument is missing or has another size or no value of its type.
    #[inline]
    pub fn scalar<T: Scalar>(self, index: usize) -> Result<T, Malformed> {
        T::from_bytes(self.bytes(index)?).ok_or_else(|| {
            Malformed(format!(
                "argument {index}: not a {}",
                std::any::type_name::<T>()
            ))
        })
    }

    /// A value of any other type.
    ///
    /// # Errors
    ///
    /// The argument is missing or not the encoding of a `T`.
    #[inline]
    pub fn value<T: DeserializeOwned>(self, index: usize) -> Result<T, Malformed> {
        decode(self.bytes(index)?)
            .map_err(|Malformed(error)| Malformed(format!("argument {index}: {error}")))
    }

    #[cold]
    fn missing(self, index: usize) -> Malformed {
        Malformed(format!(
            "argument {index} is missing: {} were passed",
            self.0.len()
        ))
    }
}

/// How many numbers of type `T` the bytes are.
#[inline]
fn count_of<T>(index: usize, bytes: &[u8]) -> Result<usize, Malformed> {
    let is_whole = bytes.len().is_multiple_of(size_of::<T>());
    if is_whole && bytes.as_ptr().cast::<T>().is_aligned() {
        return Ok(bytes.len() / size_of::<T>());
    }
    Err(Malformed(format!(
        "argument {index}: {} bytes at this address are no list of {}",
        bytes.len(),
        std::any::type_name::<T>()
    )))
}

/// What a function that is being served answers.
pub enum Answer {
    /// Success without a value.
    Unit,
    /// Success with an encoded value.
    Value(Vec<u8>),
    /// Success with a value whose encoding is one byte.
    Byte(u8),
    /// The contract's `error`, encoded.
    Error(Vec<u8>),
    /// `lifecycle.init` was not called, or failed.
    Uninitialised,
}

impl Answer {
    /// Answers a value.
    #[inline]
    pub fn value<T: Serialize>(value: &T) -> Self {
        match postcard::to_slice(value, &mut [0]) {
            Ok([byte]) => Self::Byte(*byte),
            _ => Self::Value(encode(value)),
        }
    }

    /// Answers a value with byte lists in it.
    pub fn bulk<T: Serialize + Bulk>(mut value: T) -> Self {
        let mut lists = Vec::new();
        value.each(&mut |list| lists.push(std::mem::take(list)));
        if lists.is_empty() {
            return Self::value(&value);
        }
        let mut reply = encode(&value);
        reply.reserve_exact(lists.iter().map(|list| size_of::<u64>() + list.len()).sum());
        for list in lists {
            reply.extend((list.len() as u64).to_le_bytes());
            reply.extend(list);
        }
        Self::Value(reply)
    }

    /// Answers the contract's `error`.
    #[inline]
    pub fn error<E: Serialize>(error: &E) -> Self {
        Self::Error(encode(error))
    }
}

/// Serves a call: runs `body` on the arguments and fills the reply. A panic stays inside.
///
/// # Safety
///
/// `arguments` must point to `count` slices that are valid for the call, and `reply` to an empty
/// buffer.
#[inline]
pub unsafe fn serve(
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
    body: impl FnOnce(Arguments<'_>) -> Result<Answer, Malformed>,
) -> Status {
    let slices = if count == 0 {
        &[]
    } else {
        // SAFETY: the caller vouches for `count` slices.
        unsafe { std::slice::from_raw_parts(arguments, count) }
    };
    let (status, filled) = match catch_unwind(AssertUnwindSafe(|| body(Arguments(slices)))) {
        Ok(Ok(Answer::Unit)) => return Status::OK,
        Ok(Ok(Answer::Byte(byte))) => (Status::VALUE, Buffer::of_byte(byte)),
        Ok(Ok(Answer::Value(bytes))) => (Status::VALUE, Buffer::new(bytes)),
        Ok(Ok(Answer::Error(bytes))) => (Status::ERROR, Buffer::new(bytes)),
        Ok(Ok(Answer::Uninitialised)) => return Status::UNINITIALISED,
        Ok(Err(Malformed(text))) => (Status::MALFORMED, Buffer::new(text.into_bytes())),
        Err(panic) => {
            let text = panic_text(&*panic);
            forget_panic(panic);
            (Status::PANICKED, Buffer::new(text.into_bytes()))
        }
    };
    // SAFETY: the caller vouches for `reply`.
    unsafe { reply.write(filled) };
    status
}

/// Drops what a caught panic carried. Its destructor is the plugin's code too and may panic in
/// turn; that second payload is leaked, so that nothing unwinds into the caller.
pub fn forget_panic(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// The message of a caught panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve_one(
        argument: &[u8],
        body: impl FnOnce(Arguments<'_>) -> Result<Answer, Malformed>,
    ) -> (Status, Vec<u8>) {
        let slices = [Slice::new(argument)];
        let mut reply = Buffer::EMPTY;
        // SAFETY: one live slice, and a reply buffer of our own.
        let status = unsafe { serve(slices.as_ptr(), 1, &mut reply, body) };
        let bytes = reply.bytes().to_vec();
        // SAFETY: filled by `serve` in this library.
        unsafe { reply.free() };
        (status, bytes)
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_message() {
        let (status, reply) = serve_one(b"", |_| panic!("out of {}", "cheese"));
        assert_eq!(
            (status, reply.as_slice()),
            (Status::PANICKED, b"out of cheese".as_slice())
        );
    }

    #[test]
    fn a_panic_whose_payload_panics_when_dropped_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        let (status, _) = serve_one(b"", |_| std::panic::panic_any(Bomb));
        assert_eq!(status, Status::PANICKED);
    }

    #[test]
    fn an_argument_with_bytes_left_over_is_malformed() {
        let (status, reply) = serve_one(&[1, 2], |arguments| {
            arguments.value::<u8>(0).map(|_| Answer::Unit)
        });
        assert_eq!(status, Status::MALFORMED);
        assert_eq!(
            String::from_utf8(reply).unwrap(),
            "argument 0: 1 bytes too many"
        );
    }

    #[test]
    fn scalars_cross_as_their_bytes_and_nothing_else_passes_for_them() {
        assert_eq!(u64::from_bytes(&7_u64.to_bytes()), Some(7));
        assert_eq!(f64::from_bytes(&(-0.5_f64).to_bytes()), Some(-0.5));
        assert_eq!(char::from_bytes(&'ß'.to_bytes()), Some('ß'));
        assert_eq!(bool::from_bytes(&true.to_bytes()), Some(true));
        assert_eq!(bool::from_bytes(&[2]), None);
        assert_eq!(char::from_bytes(&0xd800_u32.to_bytes()), None);
        let (status, _) = serve_one(&[1, 2, 3], |arguments| {
            arguments.scalar::<u32>(0).map(|_| Answer::Unit)
        });
        assert_eq!(status, Status::MALFORMED);
    }

    #[test]
    fn numbers_are_lent_as_they_lie_and_changed_in_place() {
        let mut gradient = [1.0_f32, 2.0];
        let shape = [2_u64];
        let slices = [
            Slice::of_numbers(&shape),
            Slice::of_exchanged(&mut gradient),
        ];
        let mut reply = Buffer::EMPTY;
        // SAFETY: two live slices, and a reply buffer of our own.
        let status = unsafe {
            serve(slices.as_ptr(), 2, &mut reply, |arguments| {
                assert_eq!(arguments.numbers::<u64>(0)?, [2]);
                for value in arguments.exchanged(1)? {
                    *value *= 2.0;
                }
                Ok(Answer::Unit)
            })
        };
        assert_eq!(status, Status::OK);
        assert_eq!(gradient, [2.0, 4.0]);
    }

    #[test]
    fn a_list_of_numbers_that_is_cut_or_not_aligned_is_malformed() {
        let numbers = [0_u32; 3];
        let slice = Slice::of_numbers(&numbers);
        // SAFETY: `numbers` lives on.
        let bytes = unsafe { slice.bytes() };
        for wrong in [&bytes[..7], &bytes[1..5]] {
            let (status, _) = serve_one(wrong, |arguments| {
                arguments.numbers::<u32>(0).map(|_| Answer::Unit)
            });
            assert_eq!(status, Status::MALFORMED);
        }
    }

    #[test]
    fn a_missing_argument_is_malformed() {
        let (status, _) = serve_one(b"", |arguments| arguments.text(1).map(|_| Answer::Unit));
        assert_eq!(status, Status::MALFORMED);
    }

    /// A record as the generators treat one: the head in the encoding, the data beside it.
    #[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Record {
        name: String,
        data: Vec<u8>,
    }

    impl Bulk for Record {
        fn each(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>)) {
            self.data.each(visit);
        }
    }

    fn bulk_reply<T: Serialize + Bulk>(value: T) -> Vec<u8> {
        let (status, reply) = serve_one(b"", |_| Ok(Answer::bulk(value)));
        assert_eq!(status, Status::VALUE);
        reply
    }

    fn record(name: &str, data: &[u8]) -> Record {
        Record {
            name: name.to_owned(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn byte_lists_cross_beside_the_encoding() {
        let reply = bulk_reply(Some(record("a", b"xyz")));
        assert_eq!(reply, b"\x01\x01a\x00\x03\0\0\0\0\0\0\0xyz");
        for value in [
            vec![],
            vec![record("", b"")],
            vec![record("a", &[7; 100_000]), record("b", b"")],
        ] {
            let reply = bulk_reply(value.clone());
            assert_eq!(decode_bulk::<Vec<Record>>(&reply).unwrap(), value);
        }
        assert_eq!(bulk_reply(None::<Record>), [0]);
        assert_eq!(decode_bulk::<Option<Record>>(&[0]).unwrap(), None);
    }

    #[test]
    fn a_byte_list_with_more_or_less_than_its_length_is_malformed() {
        let reply = bulk_reply(b"abc".to_vec());
        for end in 0..reply.len() {
            let Malformed(error) = decode_bulk::<Vec<u8>>(&reply[..end]).unwrap_err();
            assert!(!error.is_empty());
        }
        let longer = [&reply[..], b"!"].concat();
        let Malformed(error) = decode_bulk::<Vec<u8>>(&longer).unwrap_err();
        assert_eq!(error, "1 bytes too many");
        let huge = [&[0][..], &u64::MAX.to_le_bytes(), b"abc"].concat();
        decode_bulk::<Vec<u8>>(&huge).unwrap_err();
    }

    #[test]
    fn encodings_longer_than_the_inline_buffer_spill() {
        for length in [0, 1, INLINE - 2, INLINE - 1, INLINE, 4 * INLINE] {
            let text = "x".repeat(length);
            let encoded = Encoded::new(&text);
            // SAFETY: `encoded` lives on.
            let decoded: String = decode(unsafe { encoded.slice().bytes() }).unwrap();
            assert_eq!(decoded, text);
        }
    }
}
