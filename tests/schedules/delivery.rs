//! The way out: a connection that breaks and refuses, and a stream that takes only some of what it is given.

use metawatch::daemon::{AlertLink, DeliveryReport, LinkNews, Order, Published, Stored, Wake};
use metawatch::outbox::Dispatched;

use super::{Schedule, TROUBLE, stamp};

impl Schedule {
    pub(super) fn link(&mut self) {
        let link = AlertLink { generation: self.generation, up: self.up, max_payload: 1 << 20 };
        self.later(0, Wake::Delivery(DeliveryReport::Link(link)));
    }

    pub(super) fn connect(&mut self) {
        (self.up, self.refused) = (true, false);
        self.generation += 1;
        self.news.push(LinkNews::Connected);
        self.link();
    }

    /// What the client took and the server has not is lost.
    pub(super) fn disconnect(&mut self) {
        self.up = false;
        self.under_way.clear();
        self.link();
    }

    /// The server takes what the client took before.
    pub(super) fn take_in(&mut self) {
        for Dispatched { outgoing, .. } in std::mem::take(&mut self.under_way) {
            self.arrived.push(outgoing);
        }
    }

    pub(super) fn deliver(&mut self, order: Order) {
        assert!(
            !self.farewell || matches!(order, Order::Confirm { .. }),
            "nothing is told after the farewell"
        );
        match order {
            Order::Publish { batch, generation, confirm } => self.publish(batch, generation, confirm),
            Order::Confirm { generation } => self.confirm(generation),
            Order::Store { event, generation } => self.store(*event, generation),
            Order::Heartbeat(heartbeat) => self.last_heartbeat = Some(*heartbeat),
        }
    }

    fn publish(&mut self, batch: Vec<Dispatched>, generation: u64, confirm: bool) {
        let mut published = Published { generation, ..Published::default() };
        let mut takes = self.up && generation == self.generation;
        for event in batch {
            takes &= self.now >= TROUBLE || !self.random.one_in(50);
            if !takes {
                published.not_taken.push(event.place);
                continue;
            }
            published.handed.push((event.place, stamp(self.now)));
            if self.refused {
                let subject = event.outgoing.subject;
                self.refuse(subject);
            } else {
                self.under_way.push_back(event);
            }
        }
        let any = !published.handed.is_empty();
        self.later(0, Wake::Delivery(DeliveryReport::Published(published)));
        match (confirm, any) {
            (true, true) => self.confirm(generation),
            (true, false) => {
                self.later(0, Wake::Delivery(DeliveryReport::Confirmed { generation, passed: false }));
            }
            (false, _) => {}
        }
    }

    /// Of the observing connection the next epoch tells, of another one the connection itself.
    fn refuse(&mut self, subject: String) {
        if self.options.shared {
            self.news.push(LinkNews::Refused { subject, publish: true });
        } else {
            self.later(1, Wake::Delivery(DeliveryReport::Refused { subject }));
        }
    }

    fn confirm(&mut self, generation: u64) {
        let passed = self.up && generation == self.generation && !self.random.one_in(20);
        if passed {
            self.take_in();
        }
        let after = if passed { 2 + self.within(100) } else { 1_000 };
        self.later(after, Wake::Delivery(DeliveryReport::Confirmed { generation, passed }));
    }

    fn store(&mut self, event: Dispatched, generation: u64) {
        let Dispatched { place, outgoing } = event;
        let trouble = self.now < TROUBLE;
        let connected = self.up && generation == self.generation;
        let refused = trouble && connected && self.random.one_in(5);
        let silent = !connected || (trouble && self.random.one_in(5));
        let not_yet = |reason: &str, refused| Stored::NotYet { reason: reason.to_owned(), hint: "", refused };
        let outcome = match (refused, silent) {
            (true, _) => not_yet("the stream refused it", true),
            (_, true) => not_yet("no stream has acknowledged it in time", false),
            _ => Stored::Done,
        };
        // An acknowledgement that was lost says nothing of the event.
        if !refused && connected && (!silent || self.random.one_in(2)) {
            self.arrived.push(outgoing);
        }
        let after = if silent { 5_000 } else { 2 + self.within(100) };
        self.later(after, Wake::Delivery(DeliveryReport::Stored { place, generation, outcome }));
    }
}
