//! What the keys do.

/// A key, as far as one means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// To the top.
    Home,
    /// To the end.
    End,
    /// Out of the help, or out of all.
    Escape,
    /// Ctrl-C.
    Interrupt,
}

/// In which order peers and groups stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worst first.
    #[default]
    Worst,
    /// By name.
    Name,
    /// Those that are behind most first.
    Lag,
}

impl Sort {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Name => "name",
            Self::Lag => "lag",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Worst => Self::Name,
            Self::Name => Self::Lag,
            Self::Lag => Self::Worst,
        }
    }
}

/// How somebody looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The order.
    pub sort: Sort,
    /// Only what is not known to be well.
    pub only_problems: bool,
    /// Every incident is told with its reasons and what to do, however little room there is.
    pub details: bool,
    /// The screen stays as it is.
    pub paused: bool,
    /// The keys are explained.
    pub help: bool,
    /// The first line of the body that is shown.
    pub scroll: usize,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The screen is another one now.
    Redraw,
    /// Nothing.
    Nothing,
    /// It is over.
    Quit,
}

impl Controls {
    /// Takes a key. The body has `extent` lines, of which `room` fit on the screen.
    pub fn press(&mut self, key: Key, room: usize, extent: usize) -> Reaction {
        let before = *self;
        let last = extent.saturating_sub(room);
        // What was shown may have become shorter since.
        self.scroll = self.scroll.min(last);
        match key {
            Key::Interrupt | Key::Char('q' | 'Q') => return Reaction::Quit,
            Key::Escape if !self.help => return Reaction::Quit,
            Key::Escape | Key::Char('?' | 'h') => {
                self.help = !self.help;
                self.scroll = 0;
            }
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.scroll = 0;
            }
            Key::Char('o') => {
                self.only_problems = !self.only_problems;
                self.scroll = 0;
            }
            Key::Char('d') => self.details = !self.details,
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll = (self.scroll + 1).min(last),
            Key::PageUp | Key::Char('b') => self.scroll = self.scroll.saturating_sub(room),
            Key::PageDown | Key::Char('f') => self.scroll = (self.scroll + room).min(last),
            Key::Home | Key::Char('g') => self.scroll = 0,
            Key::End | Key::Char('G') => self.scroll = last,
            Key::Char(_) => {}
        }
        if *self == before { Reaction::Nothing } else { Reaction::Redraw }
    }
}
