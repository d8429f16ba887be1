//! The lifecycle against a model of it: whatever is told when, an attempt is where the model says, and keeps its
//! obligations. What goes wrong shrinks to the shortest list of what was told.

use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{
    Deadlines, Effect, Effects, Input, Patience, Retention, Rules, Scene, State, Step, StopStep,
};
use crate::engine::event::{Settlement, Unit};
use crate::engine::health::Vitals;
use crate::engine::id::{AttemptNumber, Phase};
use crate::engine::limits::{Budget, Overrun, Scope};
use crate::engine::outcome::{Claim, Exit};
use crate::engine::time::Moment;

/// When the time of the story is up, in seconds.
const TIME_UP: u64 = 150;

/// Patience without end: the clocks of a running attempt have tests of their own.
fn rules() -> Rules {
    let seconds = Duration::from_secs;
    let year = seconds(365 * 24 * 60 * 60);
    Rules {
        deadlines: Deadlines {
            prepare: seconds(100),
            connect: seconds(30),
            exit: seconds(20),
            grace: seconds(10),
            margin: seconds(1),
            reap: seconds(5),
            settle: seconds(200),
            ..Deadlines::default()
        },
        patience: Patience {
            answer: year,
            quiet: year,
            stalled: year,
            waiting: year,
        },
        retention: Retention::RemoveSucceeded,
        look: Some(seconds(7)),
        time_up: Some(Moment::from_millis(TIME_UP * 1000)),
    }
}

fn unit() -> Unit {
    Unit {
        story: "S-0001".parse().unwrap(),
        attempt: AttemptNumber::FIRST,
    }
}

/// Where an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Preparing,
    /// It may end its preparation, and nothing follows.
    Abandoning,
    /// It was told to end its preparation.
    Abandoned,
    Starting,
    Running,
    Leaving,
    Asked,
    Killed,
    Settling,
    Over,
}

/// What the model knows of an attempt. Times are in seconds.
#[derive(Debug, Clone)]
struct Model {
    place: Place,
    now: u64,
    /// When something happens by itself.
    until: u64,
}

#[derive(Debug, Clone)]
enum Turn {
    Tell(Input),
    /// So many seconds pass, and the attempt is told so.
    Wait(u64),
}

impl Model {
    fn go(&mut self, place: Place) {
        let lasts = match place {
            Place::Preparing => 100,
            Place::Abandoning => 10,
            Place::Abandoned | Place::Killed => 5,
            Place::Starting => 30,
            Place::Leaving => 20,
            Place::Asked => 11,
            Place::Settling => 200,
            Place::Running | Place::Over => u64::MAX / 2,
        };
        (self.place, self.until) = (place, self.now + lasts);
    }

    fn wait(&mut self, seconds: u64) {
        use Place::{
            Abandoned, Abandoning, Asked, Killed, Leaving, Over, Preparing, Running, Settling,
            Starting,
        };
        self.now += seconds;
        let time_up = TIME_UP <= self.now;
        let late = self.until <= self.now;
        match self.place {
            Preparing if late || time_up => self.go(Abandoned),
            Starting if late || time_up => self.go(Asked),
            Running if time_up => self.go(Asked),
            Abandoning if late => self.go(Abandoned),
            Leaving if late => self.go(Asked),
            Asked if late => self.go(Killed),
            Abandoned | Killed if late => self.go(Settling),
            Settling if late => self.go(Over),
            _ => {}
        }
    }

    fn tell(&mut self, input: &Input) {
        use Place::{
            Abandoned, Abandoning, Asked, Killed, Leaving, Over, Preparing, Running, Settling,
            Starting,
        };
        let next = match (input, self.place) {
            (Input::Prepared, Preparing) => Starting,
            (Input::Connected, Starting) => Running,
            (Input::Claimed(_) | Input::Disconnected, Starting | Running) => Leaving,
            (Input::Settled(_), Settling) => Over,
            (Input::PrepareFailed(_), Preparing | Abandoning | Abandoned)
            | (Input::Prepared, Abandoning | Abandoned)
            | (
                Input::Exited(_) | Input::LaunchFailed(_),
                Starting | Running | Leaving | Asked | Killed,
            ) => Settling,
            (Input::Stop, Preparing) => Abandoning,
            (Input::Exceeded(_), Preparing) | (Input::StopNow, Preparing | Abandoning) => Abandoned,
            (
                Input::Stop | Input::Exceeded(_) | Input::ProtocolViolated(_),
                Starting | Running | Leaving,
            )
            | (Input::StopNow, Starting | Running | Leaving | Asked) => Asked,
            _ => return,
        };
        self.go(next);
        if *input == Input::StopNow && next == Asked {
            self.until = self.now + 1;
        }
    }
}

/// The inputs that an attempt mostly gets where it is, and all others less often: late, doubled, out of place.
fn turns(place: Place) -> BoxedStrategy<Turn> {
    let because = || "because".to_owned();
    let claim = prop_oneof![
        Just(Claim::Succeeded),
        Just(Claim::Failed { reason: because() }),
        Just(Claim::Cancelled),
    ];
    let claimed = claim.prop_map(Input::Claimed);
    let exited = prop_oneof![Just(Exit::Code(0)), Just(Exit::Signal(9))].prop_map(Input::Exited);
    let settled = prop_oneof![
        Just(Settlement::Confirmed),
        Just(Settlement::Refuted(because())),
    ]
    .prop_map(Input::Settled);
    let exceeded = Overrun {
        scope: Scope::Story,
        budget: Budget::Tokens,
    };
    let fitting = match place {
        Place::Preparing => Just(Input::Prepared).boxed(),
        Place::Starting => Just(Input::Connected).boxed(),
        Place::Running => claimed.clone().boxed(),
        Place::Leaving | Place::Asked | Place::Killed => exited.clone().boxed(),
        Place::Settling => settled.clone().boxed(),
        Place::Abandoning | Place::Abandoned | Place::Over => {
            Just(Input::Answered(Vitals::new(0, None))).boxed()
        }
    };
    let any = prop_oneof![
        Just(Input::Prepared),
        Just(Input::PrepareFailed(because())),
        Just(Input::LaunchFailed(because())),
        Just(Input::Connected),
        Just(Input::PhaseEntered(Phase::Plan)),
        Just(Input::Answered(Vitals::new(0, None))),
        Just(Input::Progressed),
        Just(Input::Touched),
        claimed,
        Just(Input::Disconnected),
        Just(Input::ProtocolViolated(because())),
        exited,
        settled,
        Just(Input::Stop),
        Just(Input::StopNow),
        Just(Input::Exceeded(exceeded)),
    ];
    prop_oneof![
        3 => fitting.prop_map(Turn::Tell),
        3 => any.prop_map(Turn::Tell),
        3 => (1_u64..40).prop_map(Turn::Wait),
        1 => Just(Turn::Wait(210)),
    ]
    .boxed()
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Turn;

    fn init_state() -> BoxedStrategy<Self> {
        let mut model = Self {
            place: Place::Preparing,
            now: 0,
            until: 0,
        };
        model.go(Place::Preparing);
        Just(model).boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Turn> {
        turns(model.place)
    }

    fn apply(mut model: Self, turn: &Turn) -> Self {
        match turn {
            Turn::Tell(input) => model.tell(input),
            Turn::Wait(seconds) => model.wait(*seconds),
        }
        model
    }
}

/// An attempt, and what it has asked for so far.
#[derive(Debug)]
struct Attempt {
    step: Step,
    now: u64,
    launches: usize,
    abandoned: bool,
    asked: bool,
    settles: usize,
}

impl Attempt {
    fn place(&self) -> Place {
        let state = match &self.step {
            Step::In(state) => state,
            Step::Over(..) => return Place::Over,
        };
        match state {
            State::Preparing { .. } => Place::Preparing,
            State::Abandoning { step, .. } => match step {
                StopStep::Asked => Place::Abandoning,
                StopStep::Killed => Place::Abandoned,
            },
            State::Starting { .. } => Place::Starting,
            State::Running { .. } => Place::Running,
            State::Leaving { .. } => Place::Leaving,
            State::Stopping { step, .. } => match step {
                StopStep::Asked => Place::Asked,
                StopStep::Killed => Place::Killed,
            },
            State::Settling { .. } => Place::Settling,
        }
    }

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Launch(_) => {
                assert!(!self.abandoned, "launched after it was abandoned");
                self.launches += 1;
            }
            Effect::AbandonPreparation(_) => {
                assert_eq!(self.launches, 0, "abandoned after it was launched");
                self.abandoned = true;
            }
            Effect::AskToStop { .. } => {
                assert_eq!(self.launches, 1, "asked without a process");
                self.asked = true;
            }
            Effect::Kill(_) => assert!(self.asked, "killed unasked"),
            Effect::Settle { .. } => self.settles += 1,
            Effect::LookAtFiles(_) => assert_eq!(self.launches, 1),
            other => panic!("an attempt does not ask for {other:?}"),
        }
        let after = self.settles > 0 && !matches!(effect, Effect::Settle { .. });
        assert!(!after, "{effect:?} after it was settled");
    }

    fn tell(mut self, input: Input) -> Self {
        let Step::In(state) = self.step else {
            return self;
        };
        let unit = unit();
        let scene = Scene {
            unit: &unit,
            now: Moment::from_millis(self.now * 1000),
            rules: rules(),
        };
        let mut effects = Effects::default();
        self.step = state.advance(input, &scene, &mut effects);
        for effect in effects {
            self.perform(&effect);
        }
        self
    }
}

impl StateMachineTest for Attempt {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_model: &Model) -> Self {
        let unit = unit();
        let scene = Scene {
            unit: &unit,
            now: Moment::default(),
            rules: rules(),
        };
        let mut effects = Effects::default();
        let state = State::begin(&scene, &mut effects);
        assert_eq!(
            effects.into_iter().collect::<Vec<_>>(),
            [Effect::Prepare(unit.clone())]
        );
        Self {
            step: Step::In(state),
            now: 0,
            launches: 0,
            abandoned: false,
            asked: false,
            settles: 0,
        }
    }

    fn apply(mut attempt: Self, model: &Model, turn: Turn) -> Self {
        let attempt = match turn {
            Turn::Tell(input) => attempt.tell(input),
            Turn::Wait(seconds) => {
                attempt.now += seconds;
                attempt.tell(Input::TimePassed)
            }
        };
        assert_eq!(attempt.place(), model.place);
        attempt
    }

    fn check_invariants(attempt: &Self, _model: &Model) {
        let Step::In(state) = &attempt.step else {
            return assert_eq!(attempt.settles, 1, "over and not settled once");
        };
        let settling = matches!(state, State::Settling { .. });
        assert_eq!(attempt.settles, usize::from(settling), "settled once");
        assert_eq!(state.holds_slot(), !settling, "a slot until it is reaped");
        // Nothing is waited for without end, and no deadline is told of twice.
        let deadline = state.deadline(&rules()).as_millis();
        assert!(deadline > attempt.now * 1000, "a deadline that has passed");
    }
}

prop_state_machine! {
    #[test]
    fn an_attempt_is_where_the_model_says_and_keeps_its_obligations(sequential 1..30 => Attempt);
}
