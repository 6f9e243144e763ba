//! Requests to what they ask for: calls to the engine, everything else to `admin` and `registry`.
//!
//! One call's path: `arrived` finds the function (fresh in memory, or after a helper has looked),
//! `CallArrived` goes to the engine, whose effects relay it to an instance; the answer comes back
//! through `answers`.

use super::calls::Stage;
use super::front::{Client, Event as Front, Via};
use super::functions::{Check, Lookup, Outcome, Resolved};
use super::settings;
use super::worker::{Done, Worker};
use crate::base::{FunctionName, PackageSet, Time};
use crate::engine::{CallKey, Event, FunctionKey, Packages};
use crate::host::code::Image;
use crate::host::helper::Helpers;
use crate::http::{Code, Method, Problem, Route, bearer};

const WANTS_TOKEN: &str = "send Authorization: Bearer with the token of [http] \
                           admin_token_file, or use the Unix socket";

impl Worker {
    pub(super) fn front_event(&mut self, event: Front) {
        match event {
            Front::Arrived(client) => self.arrived(client),
            Front::Body(client) => self.body_came(client),
            Front::Writable(client) => self.writable(client),
            Front::HungUp(client) => self.hung_up(client),
        }
    }

    fn arrived(&mut self, client: Client) {
        let Some(request) = self.front.request(client) else {
            return;
        };
        let route = Route::of(request.head.path());
        let method = request.head.method();
        if let Route::Run { name, .. } = route {
            return self.call_arrived(client, name);
        }
        if request.via == Via::Tcp && !route.is_public() {
            let given = request.head.field("authorization").and_then(bearer::token);
            let is_known = match (&self.token, given) {
                (Some(token), Some(given)) => bearer::matches(token.as_bytes(), given),
                _ => false,
            };
            if !is_known {
                return self.refuse(client, &Problem::new(Code::Unauthorized, WANTS_TOKEN));
            }
        }
        match route.check(method) {
            Err(Code::MethodNotAllowed) => {
                let mut problem =
                    Problem::new(Code::MethodNotAllowed, "the field Allow lists them");
                problem.allow = route.allowed();
                self.refuse(client, &problem);
            }
            Err(code) => self.refuse(client, &Problem::new(code, "no endpoint has this path")),
            Ok(()) => self.administer(client, method),
        }
    }

    /// Everything but calls.
    fn administer(&mut self, client: Client, method: Method) {
        let Some(request) = self.front.request(client) else {
            return;
        };
        match Route::of(request.head.path()) {
            Route::Run { .. } | Route::NotFound => unreachable!("`arrived` has dealt with these"),
            Route::Status => self.answer_status(client),
            Route::Stats => self.answer_stats(client),
            Route::Metrics => self.answer_metrics(client),
            Route::Tree => self.answer_tree(client),
            Route::Debug => self.answer_debug(client),
            Route::Pid => self.answer_pid(client),
            Route::Server => self.answer_nothing(client),
            Route::Registry => self.list_functions(client),
            Route::Function(name) => match method {
                Method::Put | Method::Post => self.upload_begins(client, name),
                Method::Delete => self.remove_function(client, name),
                _ => self.show_function(client, name),
            },
            Route::FunctionConfig(name) => self.show_settings(client, name),
            Route::FunctionVersions(name) => self.list_versions(client, name),
            Route::FunctionRollback(name) => self.roll_back(client, name),
            Route::Logs(name) => self.show_log(client, name),
            Route::Trace => self.show_trace(client),
            Route::Packages if method == Method::Post => self.order_begins(client),
            Route::Packages => self.list_packages(client),
            Route::PackageSet(key) => {
                let key = key.parse().ok();
                self.show_set(client, key);
            }
            Route::FunctionPackages(name) => self.show_packages_of(client, name),
        }
    }

    pub(super) fn refuse(&mut self, client: Client, problem: &Problem<'_>) {
        self.front.refuse(client, problem);
    }

    fn call_arrived(&mut self, client: Client, name: FunctionName) {
        let id = self.calls.next_id();
        let Some(call) = self.calls.insert(id, client, name, self.now) else {
            let mut problem = Problem::new(Code::Overloaded, "as many calls as there may be");
            problem.call_id = Some(id.as_str());
            return self.refuse(client, &problem);
        };
        match self.functions.lookup(&name, call, self.now) {
            Lookup::Known(function) => self.call_found(call, function),
            Lookup::Waits => {}
            Lookup::Check(check) => self.look(check),
            Lookup::Beside(function, check) => {
                self.look(check);
                self.call_found(call, function);
            }
            Lookup::Full => {
                self.refuse_call(call, Code::Overloaded, "as many functions as there may be");
            }
        }
    }

    fn call_found(&mut self, call: CallKey, function: FunctionKey) {
        let Some(found) = self.calls.get_mut(call) else {
            return;
        };
        let Some(client) = found.client else {
            // It left while the registry was asked; the engine never heard of it.
            self.calls.remove(call);
            return;
        };
        if let Some(allow) = self.forbids_method(client, function) {
            let mut problem = Problem::new(Code::MethodNotAllowed, "its [[triggers.http]] say so");
            let id = self.calls.get(call).map(|call| call.id);
            problem.call_id = id.as_ref().map(super::calls::CallId::as_str);
            problem.allow = Some(&allow);
            self.refuse(client, &problem);
            self.calls.remove(call);
            return;
        }
        if let Some(call) = self.calls.get_mut(call) {
            call.stage = Stage::Queued;
        }
        self.tell(Event::CallArrived { call, function });
    }

    /// The methods a function takes, when this request's is none of them.
    fn forbids_method(&self, client: Client, function: FunctionKey) -> Option<String> {
        let code = self.functions.get(function)?.code.as_ref()?;
        let methods = &code.settings.methods;
        let method = self.front.request(client)?.head.method_token();
        let is_allowed = methods.is_empty() || methods.iter().any(|allowed| allowed == method);
        (!is_allowed).then(|| methods.join(", "))
    }

    /// Has a helper look at the registry.
    fn look(&mut self, check: Check) {
        let registry = self.registry.clone();
        let given_up = check.clone();
        let job = move || Done::Checked(check.run(&registry));
        if self.registry_helpers().submit(job).is_err() {
            let resolved = self.functions.unchecked(&given_up);
            self.resolved(given_up.function(), resolved);
        }
    }

    /// Those who may wait for the registry: a server must not hold up what only needs the disk.
    pub(super) fn registry_helpers(&mut self) -> &mut Helpers<Done> {
        self.fetchers.as_mut().unwrap_or(&mut self.helpers)
    }

    /// Calls that have waited for the registry long enough go on. Returns when to come again.
    pub(super) fn go_on_without_look(&mut self) -> Option<Time> {
        loop {
            match self.functions.impatient(self.now) {
                Ok((function, calls)) => {
                    for call in calls {
                        self.call_found(call, function);
                    }
                }
                Err(due) => return due,
            }
        }
    }

    /// What became of a look: the engine hears of it before the calls that waited go on.
    pub(super) fn resolved(&mut self, function: FunctionKey, resolved: Resolved) {
        match resolved.outcome {
            Outcome::Unchanged => {}
            Outcome::Deployed => self.deployed(function),
            Outcome::Kept(why) => {
                let name = self.functions.get(function).map(|function| function.name);
                let name = name.map_or_else(String::new, |name| name.to_string());
                log::error!(
                    event = "registry-failed", function = name.as_str();
                    "{name}: {why} (the code from before goes on serving)"
                );
            }
            Outcome::Absent { was_known } => {
                if was_known {
                    self.tell(Event::FunctionRemoved { function });
                }
                for call in resolved.calls {
                    self.refuse_call(
                        call,
                        Code::NoSuchFunction,
                        "the registry has none of this name",
                    );
                }
                return;
            }
            Outcome::Unlooked => {
                let detail = "as many looks at the registry as there may be are under way";
                for call in resolved.calls {
                    self.refuse_call(call, Code::Overloaded, detail);
                }
                return;
            }
            Outcome::Unusable(why) => {
                for call in resolved.calls {
                    self.refuse_call(call, Code::BadFunction, &why);
                }
                return;
            }
            Outcome::Unreachable(why) => {
                log::error!(event = "registry-failed"; "the registry: {why}");
                let detail = format!("the registry cannot be asked: {why}");
                for call in resolved.calls {
                    self.refuse_call(call, Code::Overloaded, &detail);
                }
                return;
            }
        }
        for call in resolved.calls {
            self.call_found(call, function);
        }
    }

    /// Tells the engine of the newest version of a function.
    pub(super) fn deployed(&mut self, function: FunctionKey) {
        let Some(known) = self.functions.get(function) else {
            return;
        };
        let Some(code) = &known.code else { return };
        let packages = if code.requirements.is_empty() {
            Packages::Known(PackageSet::EMPTY)
        } else {
            Packages::Wanted
        };
        let settings = Box::new(settings::of_function(
            &self.config,
            &code.settings,
            packages,
        ));
        let version = known.version;
        self.compile(code.image.clone());
        self.record_function(function);
        self.tell(Event::FunctionDeployed {
            function,
            version,
            settings,
        });
    }

    /// Has its byte code made, if somebody has time: the first instances do without.
    fn compile(&mut self, image: Image) {
        let compiler = self.compiler.clone();
        let job = move || {
            if let Err(error) = compiler.compile(&image) {
                log::warn!("no byte code for {:?}: {error}", image.digest);
            }
        };
        // Left undone: the next worker, or the next upload, gets it done.
        let _ = self.idlers.submit(job);
    }

    /// Ends a call that the engine has not heard of.
    fn refuse_call(&mut self, call: CallKey, code: Code, detail: &str) {
        let Some(ended) = self.calls.remove(call) else {
            return;
        };
        if let Some(client) = ended.client {
            let mut problem = Problem::new(code, detail);
            problem.call_id = Some(ended.id.as_str());
            self.refuse(client, &problem);
        }
    }

    fn hung_up(&mut self, client: Client) {
        self.uploads.forget(client);
        self.depot.forget(client);
        self.streams.forget(client);
        let Some(call) = self.calls.of_client(client) else {
            return;
        };
        let stage = self.calls.get(call).map(|call| call.stage);
        self.calls.part(call);
        match stage {
            // The look that it waits for finds it gone.
            Some(Stage::Looking) | None => {}
            Some(Stage::Queued) => self.tell(Event::CallHungUp { call }),
            Some(Stage::With(instance)) => {
                self.cut_body(instance);
                self.tell(Event::CallHungUp { call });
            }
        }
    }
}
