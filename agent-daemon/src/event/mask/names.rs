//! Tokens in what an event names beside arguments and cgroups: sockets, hosts.

use super::Masks;
use crate::event::{Event, Name};

impl Masks {
    /// Replaces tokens of a well-known shape in names and paths that others have chosen. Call when the event has been judged:
    /// what counts names below a domain must see them whole.
    pub fn names(&self, event: &mut Event) {
        let Event { network, unix, dns, tls, http, .. } = event;
        let names = [
            network.as_mut().and_then(|network| network.name.as_mut()),
            dns.as_mut().map(|dns| &mut dns.name),
            unix.as_mut().and_then(|unix| unix.peer.as_mut()?.exe.as_mut()),
        ];
        for name in names.into_iter().flatten() {
            if let Some(shown) = self.shapes(name) {
                *name = Name::from(shown);
            }
        }
        let texts = [
            unix.as_mut().map(|unix| &mut unix.path),
            tls.as_mut().and_then(|tls| tls.server_name.as_mut()),
            http.as_mut().and_then(|http| http.host.as_mut()),
        ];
        for text in texts.into_iter().flatten() {
            if let Some(shown) = self.shapes(text) {
                *text = shown.into();
            }
        }
    }
}
