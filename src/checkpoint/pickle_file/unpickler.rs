//! In: the bytes of a pickle. Out: its values, as far as a state dict needs them. Nothing is ever called
//! or imported: a class or function is only a name here.
//!
//! Values lie in one list and name each other by number, so that neither deep nesting nor a value that
//! holds itself can exhaust the stack, and the sizes of list, stack and memo are bounded.

use std::collections::HashMap;

use super::fault::{OperationFault, PickleFault};
use super::opcodes::{Operation, Reader};
use super::value::{Id, Storage, Value, View};

/// Real checkpoints, optimizer states and all, stay far below.
const MOST_VALUES: usize = 4_000_000;

/// The functions that make tensors take no more.
const MOST_ARGUMENTS: usize = 8;
const MOST_DIMENSIONS: usize = 16;

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'p> {
    pub(super) values: Vec<Value<'p>>,
    /// The value that the pickle stands for.
    pub(super) top: Id,
}

/// Reads a pickle.
///
/// # Errors
/// It ends early, is no pickle, is larger than any checkpoint's, or would call something
/// that is not known as harmless.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, PickleFault> {
    let mut machine = Unpickler::default();
    let mut reader = Reader::new(bytes);
    loop {
        let at = reader.position();
        let located = |fault| PickleFault::Operation { fault, at };
        let operation = reader.next()?;
        if let Operation::Stop = operation {
            let top = machine.pop().map_err(located)?;
            return Ok(Pickle { values: machine.values, top });
        }
        machine.run(operation).map_err(located)?;
    }
}

#[derive(Default)]
struct Unpickler<'p> {
    values: Vec<Value<'p>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Entries that were copied out of lists.
    copied: usize,
}

impl<'p> Unpickler<'p> {
    fn run(&mut self, operation: Operation<'p>) -> Result<(), OperationFault> {
        match operation {
            Operation::Nothing | Operation::Stop => Ok(()),
            Operation::Push(value) => self.push(value),
            Operation::Mark => {
                self.marks.push(self.stack.len());
                self.bounded(self.marks.len())
            }
            Operation::Pop => self.drop_top(),
            Operation::PopMark => self.pop_to_mark().map(|_| ()),
            Operation::Duplicate => {
                let top = self.top()?;
                self.push_id(top)
            }
            Operation::Get(key) => match self.memo.get(&key) {
                Some(&id) => self.push_id(id),
                None => Err(OperationFault::NeverKept(key)),
            },
            Operation::Put(key) => {
                let top = self.top()?;
                self.memo.insert(key, top);
                self.bounded(self.memo.len())
            }
            Operation::Memoize => {
                let (top, key) = (self.top()?, self.memo.len() as u32);
                self.memo.insert(key, top);
                self.bounded(self.memo.len())
            }
            Operation::Sequence(Some(count)) => {
                let start = self.stack.len().checked_sub(count).ok_or(OperationFault::NoValues)?;
                self.above_mark(start)?;
                let row = self.stack.split_off(start);
                self.push(Value::Sequence(row))
            }
            Operation::Sequence(None) => {
                let row = self.pop_to_mark()?;
                self.push(Value::Sequence(row))
            }
            Operation::Dict => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(pairs(&items)?))
            }
            Operation::Set => {
                self.pop_to_mark()?;
                self.push(Value::Other)
            }
            Operation::Append => {
                let item = self.pop()?;
                self.extend(&[item])
            }
            Operation::Appends => {
                let items = self.pop_to_mark()?;
                self.extend(&items)
            }
            Operation::SetItem => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[(key, value)])
            }
            Operation::SetItems => {
                let items = self.pop_to_mark()?;
                self.insert(&pairs(&items)?)
            }
            Operation::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (&Value::Text(module), &Value::Text(name)) => {
                        self.push(Value::Global(module, name))
                    }
                    _ => Err(OperationFault::ClassName),
                }
            }
            Operation::Reduce => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)
            }
            Operation::NewObjectEx => {
                let (_, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, arguments)
            }
            Operation::Object => {
                let mut items = self.pop_to_mark()?;
                if items.is_empty() {
                    return Err(OperationFault::NoValues);
                }
                let class = items.remove(0);
                let arguments = self.keep(Value::Sequence(items))?;
                self.call(class, arguments)
            }
            Operation::Instance(module, name) => {
                let items = self.pop_to_mark()?;
                let class = self.keep(Value::Global(module, name))?;
                let arguments = self.keep(Value::Sequence(items))?;
                self.call(class, arguments)
            }
            // The state of an object; what is looked at here has none.
            Operation::Build => self.drop_top(),
            Operation::PersistentId => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))
            }
        }
    }

    /// What a call would make; only what a state dict is made of is really made.
    fn call(&mut self, callee: Id, arguments: Id) -> Result<(), OperationFault> {
        let Value::Global(module, name) = self.values[callee] else {
            return Err(OperationFault::CallsUnnamed);
        };
        let owned = || (module.to_owned(), name.to_owned());
        let Value::Sequence(arguments) = &self.values[arguments] else {
            let (module, name) = owned();
            return Err(OperationFault::NoArguments { module, name });
        };
        let arguments: Vec<Id> = arguments.iter().take(MOST_ARGUMENTS).copied().collect();
        match (module, name) {
            ("collections", "OrderedDict") => {
                let items = arguments.first().map_or(Ok(Vec::new()), |&given| self.items(given))?;
                // Only here are entries copied: a list may be named again and again.
                self.copied += items.len();
                self.bounded(self.copied)?;
                self.push(Value::Dict(items))
            }
            ("collections", "defaultdict") => self.push(Value::Dict(Vec::new())),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                let view = self.view(&arguments)?;
                self.push(Value::Tensor(view))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let tensor = *arguments.first().ok_or(OperationFault::NoValues)?;
                self.push_id(tensor)
            }
            _ if super::harmless::is_harmless(module, name) => {
                self.push(Value::Inert(module, name))
            }
            _ => {
                let (module, name) = owned();
                Err(OperationFault::Call { module, name })
            }
        }
    }

    /// The entries that a list of pairs stands for.
    fn items(&self, list: Id) -> Result<Vec<(Id, Id)>, OperationFault> {
        let Value::Sequence(rows) = &self.values[list] else { return Err(OperationFault::NoPairs) };
        let pair = |&row: &Id| match &self.values[row] {
            Value::Sequence(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(OperationFault::NoPairs),
        };
        rows.iter().map(pair).collect()
    }

    /// `('storage', class, key, location, elements)`.
    fn storage(&self, id: Id) -> Result<Storage<'p>, OperationFault> {
        let broken = || OperationFault::Storage { tensor: self.near() };
        let Value::Sequence(row) = &self.values[id] else { return Err(broken()) };
        let &[kind, class, key, _, elements, ..] = row.as_slice() else { return Err(broken()) };
        match [kind, class, key, elements].map(|id| &self.values[id]) {
            [
                Value::Text("storage"),
                &Value::Global("torch" | "torch.storage", class),
                &Value::Text(key),
                &Value::Int(elements),
            ] if elements >= 0 => Ok(Storage { class, key, elements: elements as u64 }),
            [_, &Value::Global(module, name), ..] if !module.starts_with("torch") => {
                let (module, name) = (module.to_owned(), name.to_owned());
                Err(OperationFault::StorageClass { tensor: self.near(), module, name })
            }
            _ => Err(broken()),
        }
    }

    /// `(storage, offset, shape, strides, ...)`.
    fn view(&self, arguments: &[Id]) -> Result<View, OperationFault> {
        let broken = || OperationFault::View { tensor: self.near() };
        let &[storage, offset, shape, strides, ..] = arguments else { return Err(broken()) };
        match &self.values[storage] {
            Value::Storage(_) => {}
            Value::Inert(module, name) | Value::Global(module, name) => {
                let (module, name) = ((*module).to_owned(), (*name).to_owned());
                return Err(OperationFault::ViewOfObject { tensor: self.near(), module, name });
            }
            _ => return Err(broken()),
        }
        let number = |id: Id| match self.values[id] {
            Value::Int(number) => u64::try_from(number).map_err(|_| broken()),
            _ => Err(broken()),
        };
        let numbers = |id: Id| match &self.values[id] {
            Value::Sequence(row) if row.len() <= MOST_DIMENSIONS => {
                row.iter().map(|&id| number(id)).collect::<Result<Vec<_>, _>>()
            }
            _ => Err(broken()),
        };
        let view = View {
            storage,
            offset: number(offset)?,
            shape: numbers(shape)?,
            strides: numbers(strides)?,
        };
        if view.shape.len() != view.strides.len() { Err(broken()) } else { Ok(view) }
    }

    /// The tensor that is being made, for messages: its name is the last text on the stack.
    fn near(&self) -> Option<String> {
        self.stack.iter().rev().find_map(|&id| match self.values[id] {
            Value::Text(text) => Some(text.to_owned()),
            _ => None,
        })
    }

    fn extend(&mut self, items: &[Id]) -> Result<(), OperationFault> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::Sequence(row) => row.extend_from_slice(items),
            Value::Inert(..) | Value::Other => {}
            _ => return Err(OperationFault::NoList),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[(Id, Id)]) -> Result<(), OperationFault> {
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(entries) => entries.extend_from_slice(items),
            Value::Inert(..) | Value::Other => {}
            _ => return Err(OperationFault::NoDict),
        }
        Ok(())
    }

    fn keep(&mut self, value: Value<'p>) -> Result<Id, OperationFault> {
        self.bounded(self.values.len())?;
        self.values.push(value);
        Ok(self.values.len() - 1)
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), OperationFault> {
        let id = self.keep(value)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), OperationFault> {
        self.stack.push(id);
        self.bounded(self.stack.len())
    }

    fn bounded(&self, count: usize) -> Result<(), OperationFault> {
        if count < MOST_VALUES {
            return Ok(());
        }
        Err(OperationFault::TooManyValues(MOST_VALUES))
    }

    fn above_mark(&self, position: usize) -> Result<(), OperationFault> {
        let mark = self.marks.last().copied().unwrap_or(0);
        if position < mark { Err(OperationFault::NoValues) } else { Ok(()) }
    }

    fn pop(&mut self) -> Result<Id, OperationFault> {
        let position = self.stack.len().checked_sub(1).ok_or(OperationFault::NoValues)?;
        self.above_mark(position)?;
        self.stack.pop().ok_or(OperationFault::NoValues)
    }

    /// Takes the top off: a value, or a mark where that lies on top.
    fn drop_top(&mut self) -> Result<(), OperationFault> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(|_| ())
    }

    fn top(&self) -> Result<Id, OperationFault> {
        self.stack.last().copied().ok_or(OperationFault::NoValues)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, OperationFault> {
        let mark = self.marks.pop().ok_or(OperationFault::NoValues)?;
        if mark > self.stack.len() {
            return Err(OperationFault::NoValues);
        }
        Ok(self.stack.split_off(mark))
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, OperationFault> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(OperationFault::KeyWithoutValue);
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
