//! The texts that Prometheus reads: its own format, and OpenMetrics.
//!
//! A page is written from values that do not change while it is written; there is no registry, so a series ends with
//! what it is about. Both formats hold the same samples (prometheus.io/docs/instrumenting/exposition_formats,
//! the OpenMetrics specification 1.0.0).

use std::borrow::Cow;
use std::fmt::Display;

use crate::name::printable;

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The content type of a page.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a client with this `Accept` header takes: OpenMetrics where it says so and prefers nothing else.
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (0, 0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut known) = (1_000, true);
            for parameter in parts {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = quality(value.trim()),
                    "version" => known = matches!(value.trim().trim_matches('"'), "1.0.0" | "0.0.1"),
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if known => open = weight.max(open),
                "text/plain" | "text/*" => plain = weight.max(plain),
                _ => {}
            }
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// A weight of an `Accept` header in thousandths; one that cannot be read is none.
fn quality(text: &str) -> u32 {
    let weight: f64 = text.parse().unwrap_or(0.0);
    // Within 0 and 1 nothing is lost.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 1,000")]
    let thousandths = (weight.clamp(0.0, 1.0) * 1_000.0) as u32;
    thousandths
}

/// What a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    /// Its name ends with `_total`.
    Counter,
    /// Its name ends with `_info`, and its value is always 1.
    Info,
    /// A number of observations and their sum.
    Summary,
}

/// The labels of a sample.
pub type Labels<'a> = [(&'static str, &'a str)];

/// A page that is being written.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

impl Exposition {
    /// An empty page.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// A gauge begins: what can rise and fall.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(Kind::Gauge, name, help)
    }

    /// A counter begins; `name` ends with `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(Kind::Counter, name, help)
    }

    /// A series begins that carries names; `name` ends with `_info`.
    pub fn info(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(Kind::Info, name, help)
    }

    /// How many observations there were, and their sum.
    pub fn summary(&mut self, name: &'static str, help: &str, count: u64, sum: f64) {
        let family = self.family(Kind::Summary, name, help);
        family.page.sample(&format!("{name}_count"), &[], count);
        family.page.sample(&format!("{name}_sum"), &[], sum);
    }

    fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let open = self.format == Format::OpenMetrics;
        let (family, kind) = match kind {
            Kind::Gauge => (name, "gauge"),
            Kind::Counter if open => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            Kind::Counter => (name, "counter"),
            Kind::Info if open => (name.strip_suffix("_info").unwrap_or(name), "info"),
            Kind::Info => (name, "gauge"),
            Kind::Summary => (name, "summary"),
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let help = if open { help.replace('"', "\\\"") } else { help };
        self.line(format_args!("# HELP {family} {help}"));
        self.line(format_args!("# TYPE {family} {kind}"));
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit.filter(|_| open) {
            self.line(format_args!("# UNIT {family} {unit}"));
        }
        Family { page: self, name }
    }

    fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (place, (label, value)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            self.text.push_str(&escaped(value));
            self.text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{end} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    /// The page so far, to be ended later.
    pub fn into_open_text(self) -> String {
        self.text
    }

    /// Goes on with a page.
    pub fn resume(format: Format, text: String) -> Self {
        Self { format, text }
    }

    /// The whole page.
    pub fn into_text(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Series of one name.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Exposition,
    name: &'static str,
}

impl Family<'_> {
    /// One of them.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.page.sample(self.name, labels, value);
    }

    /// The only one of them.
    pub fn single(mut self, value: impl Display) {
        self.sample(&[], value);
    }
}

/// A number; one that is not known is `NaN`.
pub fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NaN".to_owned(), |value| value.to_string())
}

/// Hidden characters become visible first: the page may be shown on a terminal, too.
fn escaped(value: &str) -> Cow<'_, str> {
    let visible = printable(value);
    if !visible.contains(['\\', '"', '\n']) {
        return visible;
    }
    // The backslashes that `printable` adds are text now, and are escaped like all others.
    Cow::Owned(visible.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_openmetrics_only_where_it_asks_for_it() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
            version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.1";
        for (accept, format) in [
            (prometheus_2, Format::OpenMetrics),
            (prometheus_3, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("application/openmetrics-text;version=\"1.0.0\"", Format::OpenMetrics),
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=nonsense", Format::Prometheus),
            ("application/openmetrics-text;version=9.0.0", Format::Prometheus),
            ("application/openmetrics-text;q=0.3,text/plain;q=0.9", Format::Prometheus),
            (";;;,=,q=q=q", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn both_formats_hold_the_same_samples() {
        let page = |format| {
            let mut page = Exposition::new(format);
            page.gauge("m_wait_seconds", "How \"long\".").single(number(Some(0.5)));
            page.counter("m_events_total", "Events.").sample(&[("kind", "a"), ("of", "b")], 3);
            page.info("m_build_info", "The\nversion.").sample(&[("version", "1")], 1);
            page.summary("m_epoch_seconds", "Epochs.", 2, 0.25);
            page.into_text()
        };
        let samples = "m_wait_seconds 0.5\nm_events_total{kind=\"a\",of=\"b\"} 3\nm_build_info{version=\"1\"} 1\n\
            m_epoch_seconds_count 2\nm_epoch_seconds_sum 0.25\n";
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = page(format);
            let of_samples = text.lines().filter(|line| !line.starts_with('#'));
            assert_eq!(of_samples.fold(String::new(), |text, line| text + line + "\n"), samples);
        }
        let plain = page(Format::Prometheus);
        assert!(plain.contains("# TYPE m_events_total counter\n"), "{plain}");
        assert!(plain.contains("# TYPE m_build_info gauge\n") && !plain.contains("# EOF"), "{plain}");
        assert!(plain.contains("# HELP m_build_info The\\nversion.\n"), "{plain}");
        let open = page(Format::OpenMetrics);
        for line in [
            "# HELP m_wait_seconds How \\\"long\\\".\n",
            "# UNIT m_wait_seconds seconds\n",
            "# TYPE m_events counter\n",
            "# TYPE m_build info\n",
            "# TYPE m_epoch_seconds summary\n",
        ] {
            assert!(open.contains(line), "{line:?} in {open}");
        }
        assert!(open.ends_with("\n# EOF\n"));
    }

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        for (value, text) in [
            ("s1", "s1"),
            ("a\"} 1", "a\\\"} 1"),
            ("a\\", "a\\\\"),
            ("a\\\"b", "a\\\\\\\"b"),
            ("a\nb 1\n# EOF", "a\\\\u{a}b 1\\\\u{a}# EOF"),
            ("\u{1b}[31m", "\\\\u{1b}[31m"),
        ] {
            assert_eq!(escaped(value), text);
        }
    }
}
