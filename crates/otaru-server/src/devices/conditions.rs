//! A filter for devices as conditions in SQL, so that each begins with few devices or walks the list in its order.
//!
//! A state, a version or a tag may be that of nearly all devices or of hardly any. Left to itself, a database takes an average or the first
//! index that fits, and then sorts a fleet to show a page of it. So each condition that an index is of use for is looked at before: one that
//! few devices meet is begun with, and without such a one the list's own order is walked until a page is full.

use otaru_rollout::{RequiredTag, RolloutId, TagExpression};

use super::filter::Filter;
use super::health;
use crate::db::few::{are_few, in_few};
use crate::db::{Connection, DbError, Dialect, Value};
use crate::rollouts::deployments;

/// Tags of an expression that are looked at to begin with one of them.
const TAGS: usize = 4;
/// Bytes of a text that is looked for; ids and labels have fewer.
const LONGEST: usize = 1_000;

/// Conditions in SQL over a table of devices named `d`, with what they are compared to.
#[derive(Clone)]
pub(super) struct Conditions {
    text: String,
    /// The same, in a form that keeps SQLite from beginning with the index of a column.
    walk: String,
    pub(super) values: Vec<Value>,
    /// Whether they begin with few devices, and so cost little to count and to sort.
    pub(super) begin_with_few: bool,
}

impl Conditions {
    /// Takes over what SQL can look for in a list that is in the order of this column.
    ///
    /// # Errors
    /// Errors of the database.
    pub(super) fn of(tx: &Connection, filter: &Filter, order: &str) -> Result<Self, DbError> {
        let mut all = Self::columns(tx.dialect(), filter, order);
        if let Some(text) = &filter.text {
            all.and(&Condition::of_text(tx.dialect(), text));
        }
        if let Some(rollout) = filter.rollout {
            all.in_rollout(tx, rollout, filter.standing.as_deref())?;
        }
        let required = filter.tags.iter().flat_map(TagExpression::required).take(TAGS);
        all.begin_with_one_of(tx, "t.device", required.map(Condition::tagged))?;
        // Retired devices have an index of ids alone.
        if !filter.retired {
            let columns = Column::all(filter).into_iter().filter(|column| column.has_index);
            let columns = columns.map(|column| column.condition(""));
            let each = Condition::of_release(filter).into_iter().chain(columns);
            all.begin_with_one_of(tx, "d.id", each.map(Condition::living))?;
        }
        Ok(all)
    }

    /// Begins with those that contain the text, if they are few: of use where the order is not that of ids, as the search walks those.
    ///
    /// # Errors
    /// Errors of the database.
    pub(super) fn begin_with_text(&mut self, tx: &Connection, filter: &Filter) -> Result<(), DbError> {
        let text = filter.text.iter().filter(|_| !filter.retired);
        let found = text.map(|text| Condition::of_text(tx.dialect(), text).living());
        self.begin_with_one_of(tx, "d.id", found)
    }

    /// Returns the text by which a page is chosen.
    pub(super) fn of_a_page(&self) -> &str {
        &self.walk
    }

    /// Returns the text by which all are counted: those of an index are, where it has more than a few.
    pub(super) fn of_a_count(&self) -> &str {
        if self.begin_with_few { &self.walk } else { &self.text }
    }

    pub(super) fn and(&mut self, condition: &Condition) {
        self.add(condition, &condition.text);
    }

    fn add(&mut self, condition: &Condition, walk: &str) {
        for (text, more) in [(&mut self.text, condition.text.as_str()), (&mut self.walk, walk)] {
            text.push_str(" AND ");
            text.push_str(more);
        }
        self.values.extend(condition.values.iter().cloned());
    }

    /// Returns the conditions on columns of devices.
    fn columns(dialect: Dialect, filter: &Filter, order: &str) -> Self {
        let retired = if filter.retired { "d.retired_at IS NOT NULL" } else { "d.retired_at IS NULL" };
        let (text, walk) = (retired.to_owned(), retired.to_owned());
        let mut all = Self { text, walk, values: Vec::new(), begin_with_few: false };
        for column in Column::all(filter) {
            // SQLite takes an index only for the bare column. That of the order is walked anyway.
            let sign = if dialect == Dialect::Sqlite && column.name != order { "+" } else { "" };
            all.add(&column.condition(""), &column.condition(sign).text);
        }
        all
    }

    /// Begins with the devices of the first of these that few meet, unless they begin with few already. `device` is the column that
    /// names them.
    fn begin_with_one_of(
        &mut self,
        tx: &Connection,
        device: &str,
        each: impl IntoIterator<Item = Condition>,
    ) -> Result<(), DbError> {
        for condition in each.into_iter().take_while(|_| !self.begin_with_few) {
            if are_few(tx, &condition.text, condition.values.clone())? {
                let select = format!("{device} FROM {}", condition.text);
                self.and(&Condition { text: in_few(tx.dialect(), "d.id", &select), ..condition });
                self.begin_with_few = true;
                break;
            }
        }
        Ok(())
    }

    /// Adds that devices have a deployment in a rollout, which may have to stand so; one that is rare is begun with.
    fn in_rollout(&mut self, tx: &Connection, rollout: i64, standing: Option<&str>) -> Result<(), DbError> {
        let one = "EXISTS (SELECT 1 FROM deployments p WHERE p.device = d.id AND p.rollout = ?";
        let Some(standing) = standing else {
            self.and(&Condition::new(format!("{one})"), rollout));
            return Ok(());
        };
        let text = match deployments::is_rare(tx, RolloutId(rollout.cast_unsigned()), standing)? {
            true => {
                self.begin_with_few = true;
                let those = "p.device FROM deployments p WHERE p.rollout = ? AND p.standing = ?";
                in_few(tx.dialect(), "d.id", those)
            }
            false => format!("{one} AND p.standing = ?)"),
        };
        self.and(&Condition { text, values: vec![rollout.into(), standing.to_owned().into()] });
        Ok(())
    }
}

/// A condition on one column.
struct Column {
    name: &'static str,
    test: String,
    value: Option<Value>,
    /// Whether an index finds those for which it is so.
    has_index: bool,
}

impl Column {
    fn is(name: &'static str, value: impl Into<Value>) -> Self {
        Self { name, test: "= ?".to_owned(), value: Some(value.into()), has_index: true }
    }

    /// Returns the conditions of a filter, first the one that is likeliest to be rare.
    fn all(filter: &Filter) -> Vec<Self> {
        let texts = [
            ("d.error_code", &filter.error_code),
            ("d.state", &filter.state),
            ("d.version", &filter.version),
            ("d.chip", &filter.chip),
            ("d.product", &filter.product),
            ("d.trusts", &filter.only_trusts),
        ];
        let texts = texts.into_iter().filter_map(|(name, value)| Some(Self::is(name, value.clone()?)));
        let image = filter.image.map(|image| Self::is("d.image", image.to_vec()));
        let reachable = filter.reachable.map(|is| Self::is("d.reachable", i64::from(is)));
        let health = filter.health.iter().flat_map(|word| health::conditions(word));
        let health = health.map(|(name, test)| {
            let has_index = !test.starts_with("NOT");
            Self { name, test, value: None, has_index }
        });
        texts.chain(image).chain(reachable).chain(health).collect()
    }

    /// Returns it as a condition; something may stand before the column.
    fn condition(&self, sign: &str) -> Condition {
        let text = format!("{sign}{} {}", self.name, self.test);
        Condition { text, values: self.value.iter().cloned().collect() }
    }
}

/// One condition, with what it compares to.
pub(super) struct Condition {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Condition {
    fn new(text: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { text: text.into(), values: vec![value.into()] }
    }

    /// That an id or a label contains a text, in whatever case; of ASCII alone, as both databases do it for what is kept.
    fn of_text(dialect: Dialect, text: &str) -> Self {
        // For LIKE a text ends at a NUL, and may only be so long; no id and no label is like that.
        if text.contains('\0') || text.len() > LONGEST {
            return Self { text: "FALSE".to_owned(), values: Vec::new() };
        }
        // ILIKE would fold the pattern, too, and once more for each row: a quarter of the time of a search in vain.
        let fold = match dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => "lower",
        };
        let mut pattern = String::from("%");
        for character in text.chars() {
            if matches!(character, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character.to_ascii_lowercase());
        }
        pattern.push('%');
        let text = format!(
            r"({fold}(d.id) LIKE ? ESCAPE '\' OR d.label IS NOT NULL AND {fold}(d.label) LIKE ? ESCAPE '\')"
        );
        Self { text, values: vec![pattern.clone().into(), pattern.into()] }
    }

    /// The product and the version, where both are asked for: an index has the pair, each of which many may have.
    fn of_release(filter: &Filter) -> Option<Self> {
        let (product, version) = (filter.product.clone()?, filter.version.clone()?);
        let values = vec![product.into(), version.into()];
        Some(Self { text: "d.product = ? AND d.version = ?".to_owned(), values })
    }

    /// A tag, as table and condition.
    fn tagged(RequiredTag { name, values }: RequiredTag<'_>) -> Self {
        let mut all = Self::new("device_tags t WHERE t.name = ?", name.to_owned());
        if let Some(values) = values {
            // A statement for each power of two, not for each number: connections keep what they have prepared.
            let marks = values.len().next_power_of_two();
            all.text.push_str(&format!(" AND t.value IN ({})", vec!["?"; marks].join(", ")));
            let values = values.iter().cycle().take(marks);
            all.values.extend(values.map(|value| Value::from(value.clone())));
        }
        all
    }

    /// Of devices that are not retired, as table and condition.
    fn living(self) -> Self {
        Self { text: format!("devices d WHERE d.retired_at IS NULL AND {}", self.text), ..self }
    }
}
