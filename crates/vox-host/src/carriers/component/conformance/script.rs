//! Runs one script: the commands of the `wast` format that scripts for components use.
//!
//! What must stay true: a command that is not understood is a failure, never passed over; an
//! assertion holds only if the failure is of the kind that it names and says what it names.

use std::collections::HashMap;

use wasmtime::component::{Component, Instance, Linker, Val, types::ComponentItem};
use wasmtime::{Engine, Module, Store};
use wast::component::WastVal;
use wast::parser::{self, ParseBuffer};
use wast::token::Id;
use wast::{QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat};

use super::{Guarded, guarded};

/// How much a script asserted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Components that were instantiated.
    pub components: usize,
    /// Results that were compared.
    pub returns: usize,
    /// Traps with their reasons.
    pub traps: usize,
    /// Components refused as malformed, invalid or not to be linked.
    pub refusals: usize,
    /// Commands passed over because they need what is left out.
    pub passed_over: usize,
}

impl Counts {
    pub(super) fn add(&mut self, more: Self) {
        self.components += more.components;
        self.returns += more.returns;
        self.traps += more.traps;
        self.refusals += more.refusals;
        self.passed_over += more.passed_over;
    }
}

/// What a script came to that did not fail.
pub(super) struct Report {
    pub counts: Counts,
    /// The refusals that were expected and met.
    pub refused: Vec<&'static str>,
}

/// What a command came to: values, or how the guest failed.
type Outcome = Result<Vec<Val>, wasmtime::Error>;

/// The state between the commands of a script.
pub(super) struct Script<'e> {
    engine: &'e Engine,
    linker: Linker<Guarded>,
    definitions: HashMap<String, Component>,
    current: Option<(Store<Guarded>, Instance)>,
    counts: Counts,
    /// How commands fail that need what is left out.
    refusals: Vec<&'static str>,
    refused: Vec<&'static str>,
}

/// How a command fails that needs what an earlier command should have made.
const NOT_THERE: &str = "not there: ";

impl<'e> Script<'e> {
    pub(super) fn new(
        engine: &'e Engine,
        linker: Linker<Guarded>,
        refusals: Vec<&'static str>,
    ) -> Self {
        Self {
            engine,
            linker,
            definitions: HashMap::new(),
            current: None,
            counts: Counts::default(),
            refusals,
            refused: Vec::new(),
        }
    }

    /// Runs all commands of `text`, up to the first that fails and may not.
    pub(super) fn run(mut self, name: &str, text: &str) -> Result<Report, String> {
        let buffer = ParseBuffer::new(text).map_err(|error| format!("{name}: {error}"))?;
        let directives = match parser::parse::<Wast<'_>>(&buffer) {
            Ok(script) => script.directives,
            Err(error) => {
                self.pass_over(&error.message())
                    .map_err(|error| format!("{name}: {error}"))?;
                Vec::new()
            }
        };
        for directive in directives {
            let (line, _) = directive.span().linecol_in(text);
            self.directive(directive)
                .or_else(|error| self.pass_over(&error))
                .map_err(|error| format!("{name}:{}: {error}", line + 1))?;
        }
        Ok(Report {
            counts: self.counts,
            refused: self.refused,
        })
    }

    /// Passes over a command that fails as one may that needs what is left out, or because an
    /// earlier one was passed over.
    fn pass_over(&mut self, error: &str) -> Result<(), String> {
        let refusal = self
            .refusals
            .iter()
            .find(|refusal| error.contains(**refusal));
        match refusal {
            Some(refusal) => {
                self.refused.push(refusal);
                self.current = None;
            }
            None if error.starts_with(NOT_THERE) && !self.refused.is_empty() => {}
            None => return Err(error.to_owned()),
        }
        self.counts.passed_over += 1;
        Ok(())
    }

    fn directive(&mut self, directive: WastDirective<'_>) -> Result<(), String> {
        match directive {
            WastDirective::Module(mut source) => {
                let name = source.name();
                match self.define(&mut source)? {
                    Some(component) => self.instantiate_as(&component, name),
                    None => Ok(()),
                }
            }
            WastDirective::ModuleDefinition(mut source) => {
                let name = source.name().map_or("", |id| id.name()).to_owned();
                let component = self.define(&mut source)?;
                let component = component.ok_or("a definition of a core module")?;
                self.definitions.insert(name, component);
                Ok(())
            }
            WastDirective::ModuleInstance {
                instance, module, ..
            } => {
                let name = module.map_or("", |id| id.name());
                let component = self.definitions.get(name).cloned();
                let component =
                    component.ok_or_else(|| format!("{NOT_THERE}component `{name}`"))?;
                self.instantiate_as(&component, instance)
            }
            WastDirective::Invoke(call) => match self.invoke(&call)? {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("the call failed: {error:?}")),
            },
            WastDirective::AssertReturn { exec, results, .. } => self.assert_return(exec, &results),
            WastDirective::AssertTrap { exec, message, .. } => match self.execute(exec)? {
                Ok(values) => Err(format!("no trap `{message}`, but {values:?}")),
                Err(error) => {
                    self.counts.traps += 1;
                    says(&error, message)
                }
            },
            WastDirective::AssertMalformed {
                mut module,
                message,
                ..
            }
            | WastDirective::AssertInvalid {
                mut module,
                message,
                ..
            } => {
                self.counts.refusals += 1;
                match self.compile(module.encode()) {
                    Ok(_) => Err(format!("it compiles, and should not: {message}")),
                    Err(error) => says(&error, message),
                }
            }
            WastDirective::AssertUnlinkable {
                mut module,
                message,
                ..
            } => {
                self.counts.refusals += 1;
                let component = self.component(module.encode())?;
                match self.instantiate(&component) {
                    Ok(_) => Err(format!("it can be linked, and should not: {message}")),
                    Err(error) => says(&error, message),
                }
            }
            other => Err(format!("this command is not understood: {other:?}")),
        }
    }

    /// Compiles a component; `None` for a core module, which is compiled and then done with.
    fn define(&self, source: &mut QuoteWat<'_>) -> Result<Option<Component>, String> {
        self.compile(source.encode())
            .map_err(|error| format!("it does not compile: {error:?}"))
    }

    fn component(&self, source: Result<Vec<u8>, wast::Error>) -> Result<Component, String> {
        let compiled = self.compile(source);
        compiled
            .map_err(|error| format!("it does not compile: {error:?}"))?
            .ok_or_else(|| "a core module where a component is needed".to_owned())
    }

    fn compile(
        &self,
        source: Result<Vec<u8>, wast::Error>,
    ) -> Result<Option<Component>, wasmtime::Error> {
        let bytes = source.map_err(|error| wasmtime::Error::msg(error.message()))?;
        if bytes.get(4..8) == Some(&[1, 0, 0, 0]) {
            return Module::new(self.engine, &bytes).map(|_| None);
        }
        Component::new(self.engine, &bytes).map(Some)
    }

    fn instantiate(
        &mut self,
        component: &Component,
    ) -> Result<(Store<Guarded>, Instance), wasmtime::Error> {
        let mut store = guarded(self.engine);
        let instance = self.linker.instantiate(&mut store, component)?;
        self.counts.components += 1;
        Ok((store, instance))
    }

    /// Makes an instance the current one; one with a name can be imported from by later ones.
    fn instantiate_as(
        &mut self,
        component: &Component,
        name: Option<Id<'_>>,
    ) -> Result<(), String> {
        let failed = |error: wasmtime::Error| format!("it cannot be instantiated: {error:?}");
        let (mut store, instance) = self.instantiate(component).map_err(failed)?;
        if let Some(name) = name {
            let mut linker = self.linker.instance(name.name()).map_err(failed)?;
            for (export, item) in component.component_type().exports(self.engine) {
                match item.ty {
                    ComponentItem::Module(_) => {
                        let module = instance.get_module(&mut store, export);
                        let module = module.ok_or("an export is missing")?;
                        linker.module(export, &module).map_err(failed)?;
                    }
                    ComponentItem::Resource(_) => {
                        let resource = instance.get_resource(&mut store, export);
                        let resource = resource.ok_or("an export is missing")?;
                        linker
                            .resource(export, resource, |_, _| Ok(()))
                            .map_err(failed)?;
                    }
                    // A function of one store cannot be called from another.
                    _ => {}
                }
            }
        }
        self.current = Some((store, instance));
        Ok(())
    }

    fn execute(&mut self, what: WastExecute<'_>) -> Result<Outcome, String> {
        match what {
            WastExecute::Invoke(call) => self.invoke(&call),
            WastExecute::Wat(mut source @ Wat::Component(_)) => {
                let component = self.component(source.encode())?;
                Ok(self.instantiate(&component).map(|_| Vec::new()))
            }
            other => Err(format!("this is not understood: {other:?}")),
        }
    }

    fn invoke(&mut self, call: &WastInvoke<'_>) -> Result<Outcome, String> {
        if let Some(module) = call.module {
            return Err(format!("a call of the core module `{}`", module.name()));
        }
        let current = self.current.as_mut();
        let (store, instance) = current.ok_or_else(|| format!("{NOT_THERE}an instance"))?;
        let function = instance
            .get_func(&mut *store, call.name)
            .ok_or_else(|| format!("there is no function `{}`", call.name))?;
        let arguments = call.args.iter().map(|argument| match argument {
            WastArg::Component(argument) => Ok(value(argument)),
            other => Err(format!("an argument of a core function: {other:?}")),
        });
        let arguments: Vec<Val> = arguments.collect::<Result<_, _>>()?;
        let mut results = vec![Val::Bool(false); function.ty(&mut *store).results().len()];
        let called = function.call(&mut *store, &arguments, &mut results);
        Ok(called.map(|()| results))
    }

    fn assert_return(
        &mut self,
        what: WastExecute<'_>,
        wanted: &[WastRet<'_>],
    ) -> Result<(), String> {
        let found = self
            .execute(what)?
            .map_err(|error| format!("the call failed: {error:?}"))?;
        let wanted = wanted.iter().map(|result| match result {
            WastRet::Component(result) => Ok(value(result)),
            other => Err(format!("a result of a core function: {other:?}")),
        });
        let wanted: Vec<Val> = wanted.collect::<Result<_, _>>()?;
        let found: Vec<Val> = found.into_iter().map(sorted).collect();
        self.counts.returns += 1;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?} is returned, not {wanted:?}"))
        }
    }
}

/// Whether the failure is the one that the script names.
fn says(error: &wasmtime::Error, message: &str) -> Result<(), String> {
    let text = format!("{error:?}");
    if text.contains(message) {
        Ok(())
    } else {
        Err(format!("it fails, but not with `{message}`: {text}"))
    }
}

/// A value of a script as the engine has it.
fn value(value: &WastVal<'_>) -> Val {
    let boxed = |inner: &WastVal<'_>| Box::new(self::value(inner));
    match value {
        WastVal::Bool(v) => Val::Bool(*v),
        WastVal::U8(v) => Val::U8(*v),
        WastVal::S8(v) => Val::S8(*v),
        WastVal::U16(v) => Val::U16(*v),
        WastVal::S16(v) => Val::S16(*v),
        WastVal::U32(v) => Val::U32(*v),
        WastVal::S32(v) => Val::S32(*v),
        WastVal::U64(v) => Val::U64(*v),
        WastVal::S64(v) => Val::S64(*v),
        WastVal::F32(v) => Val::Float32(f32::from_bits(v.bits)),
        WastVal::F64(v) => Val::Float64(f64::from_bits(v.bits)),
        WastVal::Char(v) => Val::Char(*v),
        WastVal::String(v) => Val::String((*v).to_owned()),
        WastVal::List(items) => Val::List(items.iter().map(self::value).collect()),
        WastVal::Tuple(items) => Val::Tuple(items.iter().map(self::value).collect()),
        WastVal::Record(fields) => Val::Record(
            fields
                .iter()
                .map(|(name, field)| ((*name).to_owned(), self::value(field)))
                .collect(),
        ),
        WastVal::Variant(case, payload) => {
            Val::Variant((*case).to_owned(), payload.as_deref().map(boxed))
        }
        WastVal::Enum(case) => Val::Enum((*case).to_owned()),
        WastVal::Option(payload) => Val::Option(payload.as_deref().map(boxed)),
        WastVal::Result(Ok(payload)) => Val::Result(Ok(payload.as_deref().map(boxed))),
        WastVal::Result(Err(payload)) => Val::Result(Err(payload.as_deref().map(boxed))),
        WastVal::Flags(names) => sorted(Val::Flags(
            names.iter().map(|name| (*name).to_owned()).collect(),
        )),
    }
}

/// Flags are a set; the order in which they come says nothing.
fn sorted(value: Val) -> Val {
    match value {
        Val::Flags(mut names) => {
            names.sort();
            Val::Flags(names)
        }
        other => other,
    }
}
