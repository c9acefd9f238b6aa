//! Statuses and target selections, and their label values.

use std::fmt;

/// The label value for a value that AWS omitted.
///
/// Angle brackets cannot occur in a status, a target selection or a thing group's name, so no real value collides with
/// it.
pub const UNKNOWN: &str = "<unknown>";

/// The value of the label `thing_group` for a job that targets only things.
pub const NONE: &str = "<none>";

/// The label value for folded values: too many of them, or not valid as labels.
pub const OTHER: &str = "<other>";

/// The value of the label `thing_group` of a job for excluded groups.
pub const EXCLUDED: &str = "<excluded>";

/// Declares an enumeration of AWS: the documented values, and any other text.
macro_rules! aws_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$value_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$value_meta])* $variant,)+
            /// An undocumented value, with AWS's own text.
            Unknown(Box<str>),
        }

        impl $name {
            /// Every documented value.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),+];

            /// The text in the API.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(text) => text,
                }
            }

            /// The value for a label: [`UNKNOWN`] if AWS omitted it, [`OTHER`] if it could be free text.
            #[must_use]
            pub fn label(value: Option<&Self>) -> Self {
                match value {
                    None => Self::Unknown(UNKNOWN.into()),
                    Some(Self::Unknown(text)) if !is_label_text(text) => Self::Unknown(OTHER.into()),
                    Some(value) => value.clone(),
                }
            }

            /// The value for folded ones.
            #[must_use]
            pub fn other() -> Self {
                Self::Unknown(OTHER.into())
            }

            /// Whether this is an undocumented text of AWS. `value` must be a label.
            #[must_use]
            pub fn is_new(&self) -> bool {
                matches!(self, Self::Unknown(text) if !text.starts_with('<'))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    _ => Self::Unknown(text.into()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

aws_enum! {
    /// A job's status.
    Status {
        /// In progress: rolling out, or waiting for devices.
        InProgress = "IN_PROGRESS",
        /// Waiting for its start time or its next maintenance window.
        Scheduled = "SCHEDULED",
        /// Being deleted; its executions are deleted first.
        DeletionInProgress = "DELETION_IN_PROGRESS",
        /// All executions have ended, not necessarily with success.
        Completed = "COMPLETED",
        /// Canceled by a user, or because of its abort criteria.
        Canceled = "CANCELED",
    }
}

impl Status {
    /// Whether a job with this status can still change by itself. An unknown status does not count as open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::InProgress | Self::Scheduled | Self::DeletionInProgress)
    }
}

aws_enum! {
    /// The devices of a job.
    TargetSelection {
        /// The devices that were in the targets when the job was created.
        Snapshot = "SNAPSHOT",
        /// Those, and every device that joins a target group later.
        Continuous = "CONTINUOUS",
    }
}

/// Whether a text from AWS is valid as a label value: `[A-Za-z0-9_.]{1,64}`, the alphabet of all documented statuses,
/// selections and error codes. Any other text could be free text, and becomes [`OTHER`].
#[must_use]
pub fn is_label_text(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_status_round_trips_through_its_text() {
        for status in Status::KNOWN {
            assert_eq!(&Status::from(status.as_str()), status);
        }
        for selection in TargetSelection::KNOWN {
            assert_eq!(&TargetSelection::from(selection.as_str()), selection);
        }
    }

    #[test]
    fn an_unknown_status_keeps_its_text_and_is_not_open() {
        let status = Status::from("QUEUED");
        assert_eq!(status.as_str(), "QUEUED");
        assert!(!status.is_open());
    }

    #[test]
    fn only_plain_words_become_labels() {
        assert!(is_label_text("IN_PROGRESS") && is_label_text("a.B_9") && is_label_text(&"x".repeat(64)));
        for text in ["", "a b", "a\"b", "a\nb", "é", "<other>", &"x".repeat(65)] {
            assert!(!is_label_text(text), "{text:?}");
        }
    }
}
