//! The terminal: what is drawn on it, what is typed, and how it is left as it was found.
//!
//! Two threads stand between it and the rest: one reads keys, one draws. A terminal that takes nothing holds up only
//! the one that draws; frames that it does not take are left out.

use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, queue};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::report::style::Style;
use crate::screen::{Key, Line, Size};
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::report::hold_back;

/// Keys that may wait; more are lost.
const INPUTS_MAX: usize = 64;
/// How long the last frame may take.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// Something that was done at the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// A key that means something.
    Key(Key),
    /// It has another size now.
    Resized,
    /// It cannot be drawn on any more.
    Gone,
}

/// A frame, for a terminal of this size.
struct Frame {
    lines: Vec<Line>,
    size: Size,
}

/// A terminal that is drawn on. It is left as it was found, however this ends.
pub(super) struct Terminal {
    size: Size,
    inputs: mpsc::Receiver<Event>,
    frames: Option<SyncSender<Frame>>,
    /// Ready when the drawing has ended.
    ended: oneshot::Receiver<()>,
}

impl Terminal {
    /// Takes the terminal over.
    pub(super) fn enter(style: Style) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let hint = "view --watch needs a terminal; pipe it (| cat) for plain lines";
            Failure::new(FailureKind::Io, format!("cannot draw on the terminal: {error}"), hint)
        };
        let screen = Screen::enter(style).map_err(failed)?;
        let (typed, inputs) = mpsc::channel(INPUTS_MAX);
        let (frames, drawn) = sync_channel(1);
        let (over, ended) = oneshot::channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("keys").spawn(move || read_inputs(&typed)).map_err(failed)?;
        let drawing = move || {
            draw_frames(screen, &drawn);
            // Nobody may wait for it any more.
            over.send(()).ok();
        };
        thread("screen").spawn(drawing).map_err(failed)?;
        Ok(Self { size: size_of_terminal(), inputs, frames: Some(frames), ended })
    }

    /// How large it is. It is asked each time: that it has changed may be told before anybody listens, or be lost.
    pub(super) fn size(&mut self) -> Size {
        self.size = size_of_terminal();
        self.size
    }

    /// Shows these lines, unless the terminal has not taken the last ones yet.
    pub(super) fn draw(&self, lines: Vec<Line>) {
        if let Some(frames) = &self.frames {
            match frames.try_send(Frame { lines, size: self.size }) {
                // The next one shows the same or more; that it is gone is told by `ended`.
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// The next thing that happens at the terminal.
    pub(super) async fn input(&mut self) -> Input {
        loop {
            let event = tokio::select! {
                // Its sender goes with the drawing.
                _ = &mut self.ended => return Input::Gone,
                Some(event) = self.inputs.recv() => event,
            };
            if let Event::Resize(..) = event {
                return Input::Resized;
            }
            if let Some(key) = key(&event) {
                return Input::Key(key);
            }
        }
    }

    /// Leaves it as it was found.
    pub(super) async fn leave(mut self) {
        drop(self.frames.take());
        // A terminal that takes nothing is left as it is.
        drop(timeout(LEAVE_MAX, &mut self.ended).await);
    }
}

/// Reads until the terminal is gone, or nobody waits for keys.
fn read_inputs(typed: &mpsc::Sender<Event>) {
    while let Ok(event) = read() {
        if typed.blocking_send(event).is_err() {
            return;
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other keys mean nothing here")]
fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Key::Interrupt),
            KeyCode::Char('f') => Some(Key::PageDown),
            KeyCode::Char('b') => Some(Key::PageUp),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Up => Key::Up,
        KeyCode::Down | KeyCode::Enter => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}

fn size_of_terminal() -> Size {
    let (columns, rows) = size().unwrap_or((80, 24));
    Size { columns: columns.into(), rows: rows.into() }
}

/// Draws until there are no more frames, or the terminal takes none.
fn draw_frames(mut screen: Screen, frames: &Receiver<Frame>) {
    while let Ok(frame) = frames.recv() {
        if screen.draw(frame).is_err() {
            return;
        }
    }
}

/// The screen of the terminal, and what stands on it. Dropping it gives the terminal back.
struct Screen {
    out: Box<dyn Write + Send>,
    style: Style,
    size: Option<Size>,
    lines: Vec<Line>,
}

impl Screen {
    fn enter(style: Style) -> io::Result<Self> {
        restore_on_panic();
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::Relaxed);
        hold_back(true);
        // From here on it is given back.
        let mut screen = Self { out: stdout_unlocked()?, style, size: None, lines: Vec::new() };
        queue!(screen.out, EnterAlternateScreen, cursor::Hide, DisableLineWrap)?;
        screen.out.flush()?;
        Ok(screen)
    }

    /// Writes the lines that differ from what stands there, all at once.
    fn draw(&mut self, frame: Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        if self.size != Some(frame.size) {
            queue!(bytes, Clear(ClearType::All))?;
            self.lines.clear();
            self.size = Some(frame.size);
        }
        for (row, line) in frame.lines.iter().enumerate() {
            let Ok(at) = u16::try_from(row) else { break };
            if self.lines.get(row) == Some(line) {
                continue;
            }
            queue!(bytes, cursor::MoveTo(0, at))?;
            for span in &line.spans {
                let text = span.tone.map(|tone| self.style.paint(tone, &span.text));
                bytes.extend_from_slice(text.as_deref().unwrap_or(&span.text).as_bytes());
            }
            queue!(bytes, Clear(ClearType::UntilNewLine))?;
        }
        if frame.lines.len() < self.lines.len() {
            queue!(bytes, Clear(ClearType::FromCursorDown))?;
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        self.lines = frame.lines;
        self.out.write_all(&bytes)?;
        self.out.flush()
    }
}

/// Stdout without its lock: a terminal that takes nothing must not keep the rest of the program from ending.
fn stdout_unlocked() -> io::Result<Box<dyn Write + Send>> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        Ok(Box::new(std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }
    #[cfg(not(unix))]
    Ok(Box::new(io::stdout()))
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// The terminal is taken over, and not given back yet.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, once. Where it is gone, there is nothing to give back.
fn restore() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    let mut bytes = Vec::new();
    if queue!(bytes, EndSynchronizedUpdate, EnableLineWrap, cursor::Show, LeaveAlternateScreen).is_ok() {
        drop(stdout_unlocked().and_then(|mut out| out.write_all(&bytes).and_then(|()| out.flush())));
    }
    drop(disable_raw_mode());
    hold_back(false);
}

/// What a panic says is to be read: the terminal is given back before it is said.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}
