//! The stack machine.

use std::collections::HashMap;
use std::io::Read;

use super::heap::{Heap, MAX_VALUES};
use super::read::{Bytes, MAX_INTEGER_BYTES, MAX_PICKLE_BYTES, MAX_TEXT_BYTES};
use super::value::{Global, Id, Value};
use super::{opcode, rebuild};
use crate::formats::pytorch::Fault;

/// Marks that may be open at once: how deep tuples, lists and dictionaries are nested while they are
/// filled.
pub const MAX_MARKS: usize = 256;
/// How often anything may be put on the stack; what is copied from one value to another counts too.
pub const MAX_PUSHES: usize = 1 << 23;

/// Arguments of a call at most.
const MAX_ARGUMENTS: usize = 16;
/// Bytes of the name of a module, or of a name in it, at most.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Reads one pickle, which `pickle` names, and leaves the reader right after it. The values are added
/// to the heap.
///
/// # Errors
///
/// The first thing in it that plain weights would not have.
pub(in super::super) fn load(
    from: &mut dyn Read,
    pickle: &'static str,
    heap: &mut Heap,
) -> Result<Id, Fault> {
    let mut machine = Machine {
        bytes: Bytes::new(from, pickle),
        heap,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pushes: 0,
        at: 0,
    };
    loop {
        if let Some(result) = machine.step()? {
            return Ok(result);
        }
    }
}

pub(super) struct Machine<'a, 'h> {
    bytes: Bytes<'a>,
    pub(super) heap: &'h mut Heap,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pushes: usize,
    /// Where the current instruction stands.
    pub(super) at: u64,
}

impl Machine<'_, '_> {
    /// Carries out one instruction; the result comes with the last.
    fn step(&mut self) -> Result<Option<Id>, Fault> {
        self.at = self.bytes.offset;
        match self.bytes.byte("the next instruction")? {
            0x80 => self.protocol()?,
            0x95 => self.frame()?,
            b'.' => return self.pop().map(Some),
            b'N' => self.push_new(Value::None)?,
            0x88 => self.push_new(Value::Bool(true))?,
            0x89 => self.push_new(Value::Bool(false))?,
            b'J' => {
                let number = i32::from_le_bytes(self.bytes.array("a number")?);
                self.push_new(Value::Int(number.into()))?;
            }
            b'K' => {
                let number = self.bytes.byte("a number")?;
                self.push_new(Value::Int(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.bytes.array("a number")?);
                self.push_new(Value::Int(number.into()))?;
            }
            0x8a => {
                let len = self.len1()?;
                self.integer(len)?;
            }
            0x8b => {
                let len = self.len4()?;
                self.integer(len)?;
            }
            b'G' => {
                self.bytes.array::<8>("a number")?;
                self.push_new(Value::Float)?;
            }
            0x8c => {
                let len = self.len1()?;
                self.text(len)?;
            }
            b'X' => {
                let len = self.len4()?;
                self.text(len)?;
            }
            0x8d => {
                let len = self.len8()?;
                self.text(len)?;
            }
            b'U' => {
                let len = self.len1()?;
                self.old_text(len)?;
            }
            b'T' => {
                let len = self.len4()?;
                self.old_text(len)?;
            }
            b'C' => {
                let len = self.len1()?;
                self.byte_string(len)?;
            }
            b'B' => {
                let len = self.len4()?;
                self.byte_string(len)?;
            }
            0x8e => {
                let len = self.len8()?;
                self.byte_string(len)?;
            }
            b')' => self.push_new(Value::Tuple(Vec::new()))?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_new(Value::Tuple(items))?;
            }
            b']' => self.push_new(Value::List(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push_new(Value::Dict(Vec::new()))?,
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            0x8f => self.push_new(Value::Set)?,
            0x90 => {
                self.pop_to_mark()?;
                match self.heap.get(self.top()?) {
                    Value::Set => {}
                    other => return Err(self.action("add elements to", other.kind())),
                }
            }
            0x91 => {
                self.pop_to_mark()?;
                self.push_new(Value::Set)?;
            }
            b'(' => self.mark()?,
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'h' => {
                let key = self.bytes.byte("a place in the memo")?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.bytes.array("a place in the memo")?);
                self.recall(key)?;
            }
            b'q' => {
                let key = self.bytes.byte("a place in the memo")?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.bytes.array("a place in the memo")?);
                self.memoize(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                self.memoize(key)?;
            }
            b'c' => {
                let module = self.bytes.line("the name of a module")?;
                let name = self.bytes.line("a name in a module")?;
                self.global(module, name)?;
            }
            0x93 => self.stack_global()?,
            b'Q' => {
                let id = self.pop()?;
                let view = rebuild::persistent(self, id)?;
                self.push_new(Value::Storage(view))?;
            }
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments)?;
            }
            0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                match self.heap.get(class) {
                    Value::Global(Global::OrderedDict | Global::Size) => {
                        self.call(class, arguments)?;
                    }
                    other => return Err(self.action("make an object of", other.kind())),
                }
            }
            b'b' => self.build()?,
            byte => {
                return Err(Fault::Opcode {
                    name: opcode::name(byte),
                    byte,
                    pickle: self.bytes.pickle,
                    offset: self.at,
                });
            }
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Result<(), Fault> {
        match self.bytes.byte("the number of the protocol")? {
            0..=5 => Ok(()),
            _ => Err(self.damaged("it is of a protocol after 5")),
        }
    }

    /// A frame only says how much follows; what follows is counted as it comes.
    fn frame(&mut self) -> Result<(), Fault> {
        if self.len8()? > MAX_PICKLE_BYTES {
            return Err(self.bytes.limit("the bytes of a frame", MAX_PICKLE_BYTES));
        }
        Ok(())
    }

    fn len1(&mut self) -> Result<u64, Fault> {
        self.bytes.byte("a length").map(u64::from)
    }

    fn len4(&mut self) -> Result<u64, Fault> {
        Ok(u32::from_le_bytes(self.bytes.array("a length")?).into())
    }

    fn len8(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.bytes.array("a length")?))
    }

    /// A whole number in two's complement, the low byte first.
    fn integer(&mut self, len: u64) -> Result<(), Fault> {
        let bytes = self
            .bytes
            .many(len, MAX_INTEGER_BYTES, "the bytes of a whole number")?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        let value = match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(&bytes);
                Value::Int(i128::from_le_bytes(wide))
            }
            None => Value::BigInt,
        };
        self.push_new(value)
    }

    fn text(&mut self, len: u64) -> Result<(), Fault> {
        let bytes = self
            .bytes
            .many(len, MAX_TEXT_BYTES, "the bytes of a text")?;
        let text = String::from_utf8(bytes).map_err(|_| self.damaged("a text is not UTF-8"))?;
        self.push_new(Value::Text(text.into()))
    }

    /// What Python 2 wrote both for text and for bytes.
    fn old_text(&mut self, len: u64) -> Result<(), Fault> {
        let bytes = self
            .bytes
            .many(len, MAX_TEXT_BYTES, "the bytes of a text")?;
        self.push_new(match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Bytes,
        })
    }

    fn byte_string(&mut self, len: u64) -> Result<(), Fault> {
        self.bytes
            .many(len, MAX_TEXT_BYTES, "the bytes of a byte string")?;
        self.push_new(Value::Bytes)
    }

    fn tuple(&mut self, len: usize) -> Result<(), Fault> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push_new(Value::Tuple(items))
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Fault> {
        let top = self.top()?;
        match self.heap.get_mut(top) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            other => {
                let kind = other.map_or("nothing", |value| value.kind());
                return Err(self.action("append to", kind));
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Fault> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.damaged("a key has no value"));
        }
        let top = self.top()?;
        match self.heap.get_mut(top) {
            Some(Value::Dict(dict)) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            other => {
                let kind = other.map_or("nothing", |value| value.kind());
                return Err(self.action("set items of", kind));
            }
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), Fault> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.heap.text(module), self.heap.text(name)) {
            (Some(module), Some(name)) if module.len().max(name.len()) > MAX_NAME_BYTES => {
                Err(self
                    .bytes
                    .limit("the bytes of a name", MAX_NAME_BYTES as u64))
            }
            (Some(module), Some(name)) => {
                let (module, name) = (module.to_owned(), name.to_owned());
                self.global(module, name)
            }
            _ => Err(self.damaged("what is to be imported is not named by two texts")),
        }
    }

    fn global(&mut self, module: String, name: String) -> Result<(), Fault> {
        match Global::find(&module, &name) {
            Some(global) => self.push_new(Value::Global(global)),
            None => Err(Fault::Import {
                module,
                name,
                pickle: self.bytes.pickle,
                offset: self.at,
            }),
        }
    }

    fn call(&mut self, callable: Id, arguments: Id) -> Result<(), Fault> {
        let global = match self.heap.get(callable) {
            Value::Global(global) => *global,
            other => return Err(self.action("call", other.kind())),
        };
        let arguments = self.heap.tuple(arguments);
        let arguments = arguments.filter(|arguments| arguments.len() <= MAX_ARGUMENTS);
        let Some(arguments) = arguments.map(<[Id]>::to_vec) else {
            return Err(self.damaged("the arguments of a call are no tuple, or too many"));
        };
        let made = rebuild::call(self, global, &arguments)?;
        self.push(made)
    }

    /// The state of an object: only dictionaries have one here, `_metadata` of modules, and it says
    /// nothing about tensors.
    fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        let object = self.heap.get(self.top()?);
        match (object, self.heap.get(state)) {
            (Value::Dict(_), Value::Dict(_)) => Ok(()),
            (other, _) => Err(self.action("set the state of", other.kind())),
        }
    }

    fn mark(&mut self) -> Result<(), Fault> {
        if self.marks.len() >= MAX_MARKS {
            return Err(self.bytes.limit("the open marks", MAX_MARKS as u64));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Keeps a value and gives its place.
    pub(super) fn new_value(&mut self, value: Value) -> Result<Id, Fault> {
        let added = self.heap.add(value);
        added.ok_or_else(|| self.bytes.limit("the values", MAX_VALUES as u64))
    }

    fn push_new(&mut self, value: Value) -> Result<(), Fault> {
        let id = self.new_value(value)?;
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Result<(), Fault> {
        self.charge(1)?;
        self.stack.push(id);
        Ok(())
    }

    /// Counts what is about to be copied: a few bytes of a pickle can name a large value again and
    /// again.
    pub(super) fn charge(&mut self, count: usize) -> Result<(), Fault> {
        self.pushes = self.pushes.saturating_add(count);
        if self.pushes > MAX_PUSHES {
            return Err(self.bytes.limit("the values", MAX_PUSHES as u64));
        }
        Ok(())
    }

    fn top(&self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(self.damaged("an instruction finds nothing on the stack")),
        }
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop() {
            Some(floor) if floor <= self.stack.len() => Ok(self.stack.split_off(floor)),
            _ => Err(self.damaged("an instruction finds no mark")),
        }
    }

    fn recall(&mut self, key: u32) -> Result<(), Fault> {
        match self.memo.get(&key) {
            Some(&id) => self.push(id),
            None => Err(self.damaged("the memo has nothing at the place that is asked for")),
        }
    }

    fn memoize(&mut self, key: u32) -> Result<(), Fault> {
        let top = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(self
                .bytes
                .limit("the places of the memo", MAX_VALUES as u64));
        }
        self.memo.insert(key, top);
        Ok(())
    }

    pub(super) fn pickle(&self) -> &'static str {
        self.bytes.pickle
    }

    pub(super) fn damaged(&self, why: &'static str) -> Fault {
        Fault::Pickle {
            why,
            pickle: self.bytes.pickle,
            offset: self.at,
        }
    }

    pub(super) fn action(&self, action: &'static str, what: &'static str) -> Fault {
        Fault::Action {
            action,
            what,
            pickle: self.bytes.pickle,
            offset: self.at,
        }
    }
}
