//! Sentences for who brings firmware: what was kept of the file, and what devices and people will see of it.

use otaru_format::image::Descriptor;

use super::naming::{is_framework_name, is_framework_version};

/// Tells in words what a firmware file has beside its image.
pub fn of_file(cut: u64, has_signature_block: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if cut > 0 {
        remarks.push(match cut {
            1 => "1 byte behind the image is no part of it and was left out".to_owned(),
            cut => format!("{cut} bytes behind the image are no part of it and were left out"),
        });
    }
    if has_signature_block {
        remarks.push("the signature block of secure boot behind the image is kept".to_owned());
    }
    remarks
}

/// The words that an image has for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnNames {
    /// Name of the project.
    pub project: String,
    /// The version.
    pub version: String,
}

impl From<&Descriptor<'_>> for OwnNames {
    fn from(descriptor: &Descriptor<'_>) -> Self {
        Self { project: descriptor.project().to_owned(), version: descriptor.version().to_owned() }
    }
}

impl OwnNames {
    /// A hint where an image that is called by its own words would look like any other that is built with a framework.
    pub fn hint(&self, product: &str, version: &str) -> Option<String> {
        let as_product = product == self.project && is_framework_name(&self.project);
        let as_version =
            version == self.version && (is_framework_version(version) || is_framework_name(&self.project));
        let (project, own) = (&self.project, &self.version);
        let product = "a name of its own (`--product NAME`, on devices that have it as `Config::product`)";
        match (as_product, as_version) {
            (true, true) => Some(format!(
                "its project {project:?} and version {own:?} are a framework's, and the same in every build: give it a \
                 version (`--version`), so that it is not taken for another, or {product}"
            )),
            (true, false) => Some(format!(
                "its project {project:?} is a framework's, and that of other apps as well: give it {product}"
            )),
            (false, true) => Some(format!(
                "its version {own:?} is a framework's, and the same in every build: give it one of its own (`--version`)"
            )),
            (false, false) => None,
        }
    }

    /// Names the devices that take a release whose product is not the name that its image has for itself.
    pub fn only_for(&self, product: &str) -> Option<String> {
        (product != self.project).then(|| {
            format!(
                "the image calls itself {:?}, and devices hold a release's product against their own: it is taken where \
                 `Config::product` is {product:?}, and refused (wrong_product) where it is not",
                self.project
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_framework_says_of_itself_is_no_name_for_an_app() {
        let own =
            |project: &str, version: &str| OwnNames { project: project.into(), version: version.into() };
        let wled = own("arduino-lib-builder", "esp-idf: v4.4.3 6407ecb3f8");
        let hint = wled.hint(&wled.project, &wled.version).unwrap();
        assert!(hint.contains("--version") && hint.contains("--product"), "{hint}");
        assert!(wled.hint("wled", &wled.version).unwrap().contains("--version"));
        assert!(wled.hint(&wled.project, "0.14.4").unwrap().contains("Config::product"));
        assert_eq!(wled.hint("wled", "0.14.4"), None);
        // WLED for the first ESP32: a commit, of the libraries and not of the app.
        let old = own("esp32-arduino-lib-builder", "b1c75d1-dirty");
        assert!(old.hint("wled", &old.version).is_some());
        assert_eq!(own("nukihub", "177a0c4-dirty").hint("nukihub", "177a0c4-dirty"), None);
    }

    #[test]
    fn a_product_of_its_own_names_the_setting() {
        let own = OwnNames { project: "arduino-lib-builder".into(), version: "1".into() };
        let said = own.only_for("wled").unwrap();
        assert!(
            said.contains("Config::product") && said.contains("\"wled\"") && said.contains("wrong_product")
        );
        assert_eq!(own.only_for("arduino-lib-builder"), None);
    }
}
