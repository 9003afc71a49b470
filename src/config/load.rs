//! From files to a [`Config`]: read, take apart, compile in the order of references.

use super::reader::Section;
use super::report::{Diagnostic, File, Report, Spot};
use super::source::Source;
use super::types::Config;
use super::{
    credentials, issuers, limits, listeners, masks, names::Names, resources, rules, settings,
    webhooks,
};
use std::mem::take;
use std::path::Path;
use toml::Spanned;
use toml::de::DeTable;

/// Largest file.
const FILE_LEN_MAX: usize = 8 << 20;
/// Most included files.
const FILES_MAX: usize = 256;

/// Reads the config at `path` with all files that it includes, and compiles it.
///
/// # Errors
/// Everything that is wrong, in the order of the files and their lines. A secret is not opened
/// here, and a private key is not read.
pub fn load(path: &Path, source: &dyn Source) -> Result<Config, Vec<Diagnostic>> {
    load_with(path, source, &mut Report::default())
}

pub(super) fn load_with(
    path: &Path,
    source: &dyn Source,
    report: &mut Report,
) -> Result<Config, Vec<Diagnostic>> {
    let files = read_all(path, source)?;
    let documents: Vec<Spanned<DeTable<'_>>> =
        files.iter().map(|file| parse(file, report)).collect();
    if !report.errors.is_empty() {
        return Err(sorted(take(&mut report.errors), &files));
    }
    let mut parts = Parts::default();
    for (place, (file, document)) in files.iter().zip(&documents).enumerate() {
        parts.take(file, document.get_ref(), place == 0, report);
    }
    let main = files.first().ok_or_else(Vec::new)?;
    let config = compile(parts, main, &files, source, report);
    match config {
        Some(mut config) if report.errors.is_empty() => {
            config.warnings = sorted(take(&mut report.warnings), &files);
            Ok(config)
        }
        _ => Err(sorted(take(&mut report.errors), &files)),
    }
}

/// The tables of all files, by kind.
#[derive(Default)]
struct Parts<'a> {
    gateway: Option<Section<'a>>,
    admin: Option<Section<'a>>,
    record: Option<Section<'a>>,
    limits: Option<Section<'a>>,
    issuers: Vec<Section<'a>>,
    listeners: Vec<Section<'a>>,
    credentials: Vec<Section<'a>>,
    resources: Vec<Section<'a>>,
    masks: Vec<Section<'a>>,
    rules: Vec<Section<'a>>,
    webhooks: Vec<Section<'a>>,
    cases: Vec<Section<'a>>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, file: &'a File, table: &'a DeTable<'a>, main: bool, report: &mut Report) {
        let mut root = Section::new(file, "the file", 0, table);
        for (key, slot) in [
            ("gateway", &mut self.gateway),
            ("admin", &mut self.admin),
            ("record", &mut self.record),
            ("limits", &mut self.limits),
        ] {
            let spot = root.spot_of(key);
            let Some(section) = root.table(key, report) else { continue };
            if slot.is_some() {
                report.error(spot, format!("a second [{key}]"), "it may stand in one file only");
            } else {
                *slot = Some(section);
            }
        }
        for (key, list) in [
            ("issuer", &mut self.issuers),
            ("listener", &mut self.listeners),
            ("credential", &mut self.credentials),
            ("resource", &mut self.resources),
            ("mask", &mut self.masks),
            ("rule", &mut self.rules),
            ("webhook", &mut self.webhooks),
            ("case", &mut self.cases),
        ] {
            list.append(&mut root.tables(key, report));
        }
        if main {
            root.texts("include", report);
        } else if root.has("include") {
            let spot = root.spot_of("include");
            report.error(spot, "an included file includes", "include it from the main file");
        }
        root.finish(report);
    }
}

fn compile<'a>(
    mut parts: Parts<'a>,
    main: &'a File,
    files: &'a [File],
    source: &dyn Source,
    report: &mut Report,
) -> Option<Config> {
    let limits = limits::global(parts.limits, report);
    let gateway = settings::gateway(parts.gateway, main, report);
    let record = settings::record(parts.record, report);

    let mut issuer_sections = issuers::Split::new(parts.issuers, report);
    let token_names = Names::read("issuer", "name", &mut issuer_sections.tokens, report);
    let certificate_names =
        Names::read("issuer", "name", &mut issuer_sections.certificates, report);
    for name in certificate_names.all() {
        token_names.clashes(name, &certificate_names, report);
    }
    let token_issuers = issuers::tokens(issuer_sections.tokens, &token_names, source, report);
    let certificate_issuers = issuers::certificates(
        issuer_sections.certificates,
        &certificate_names,
        &token_issuers,
        source,
        report,
    );

    let mut credential_names = Names::read("credential", "name", &mut parts.credentials, report);
    let (mut credentials, broken_credentials) =
        credentials::named(parts.credentials, &credential_names, report);
    let resource_names = Names::read("resource", "name", &mut parts.resources, report);
    let mut around = resources::Around {
        names: &resource_names,
        credential_names: &mut credential_names,
        credentials: &mut credentials,
        broken_credentials: &broken_credentials,
        limits: &limits,
        source,
    };
    let resources = resources::resources(parts.resources, &mut around, report);

    let has_admin = parts.admin.is_some();
    let admin = parts.admin.and_then(|section| {
        settings::admin(section, &token_names, &certificate_names, &token_issuers, report)
    });
    let listener_names = Names::read("listener", "name", &mut parts.listeners, report);
    if parts.listeners.is_empty() {
        let spot = Spot { file: main, offset: 0 };
        report.error(spot, "there is no [[listener]]", "add one: name, address, protocol");
    }
    let around = listeners::Around {
        names: &listener_names,
        resource_names: &resource_names,
        resources: &resources,
        certificate_issuers: &certificate_issuers,
        admin: admin.as_ref().map(|admin| admin.address),
        source,
    };
    let listeners = listeners::listeners(parts.listeners, &around, report);

    let mask_names = Names::read("mask", "name", &mut parts.masks, report);
    let masks = masks::masks(parts.masks, &mask_names, report);

    let rule_names = Names::read("rule", "id", &mut parts.rules, report);
    let around = rules::Around {
        token_issuers: &token_issuers,
        certificate_issuers: &certificate_issuers,
        resource_names: &resource_names,
        resources: &resources,
        mask_names: &mask_names,
        credential_names: &credential_names,
        credentials: &credentials,
        people: admin.as_ref().is_some_and(|admin| admin.issuer.is_some()),
    };
    let (table, rule_places) = rules::table(parts.rules, &rule_names, &around, report);
    let cases = rules::cases(parts.cases, &rule_names, &around, report);
    let webhook_names = Names::read("webhook", "name", &mut parts.webhooks, report);
    let around = webhooks::Around {
        names: &webhook_names,
        resource_names: &resource_names,
        rule_names: &rule_names,
        links: admin.as_ref().is_some_and(|admin| admin.public_url.is_some()),
        source,
    };
    let webhooks = webhooks::webhooks(parts.webhooks, &around, report);
    if has_admin && admin.is_none() {
        return None;
    }
    Some(Config {
        files: files.iter().map(|file| file.path.clone()).collect(),
        gateway,
        admin,
        record,
        limits,
        token_issuers,
        certificate_issuers,
        listeners,
        credentials,
        resources: resources.into_iter().collect::<Option<Vec<_>>>()?,
        masks,
        table,
        webhooks,
        cases,
        rule_places,
        warnings: Vec::new(),
    })
}

/// The main file and those that it includes.
fn read_all(path: &Path, source: &dyn Source) -> Result<Vec<File>, Vec<Diagnostic>> {
    let whole = |path: &Path, message: String, help: &str| {
        vec![Diagnostic { file: path.to_owned(), line: 1, message, help: help.to_owned() }]
    };
    let main = read(path, source)
        .map_err(|message| whole(path, message, "name a config that can be read: -c FILE"))?;
    let mut errors = Vec::new();
    let mut included = Vec::new();
    {
        let (document, _) = DeTable::parse_recoverable(&main.text);
        let mut root = Section::new(&main, "the file", 0, document.get_ref());
        // Errors of form are found again, and reported, when all files are taken apart.
        let mut unheard = Report::default();
        for text in root.texts("include", &mut unheard).unwrap_or_default() {
            let path = main.beside(text.text);
            let twice = path == main.path || included.iter().any(|file: &File| file.path == path);
            let fault = if twice {
                Err("it is read already".to_owned())
            } else if included.len() == FILES_MAX {
                Err(format!("more than {FILES_MAX} files"))
            } else {
                read(&path, source)
            };
            match fault {
                Ok(file) => included.push(file),
                Err(message) => errors.push(text.spot.place().says(
                    format!("cannot include {}: {message}", path.display()),
                    "paths are relative to the file that names them",
                )),
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    included.insert(0, main);
    Ok(included)
}

fn read(path: &Path, source: &dyn Source) -> Result<File, String> {
    let bytes = source.read(path).map_err(|error| error.to_string())?;
    if bytes.len() > FILE_LEN_MAX {
        return Err(format!("it is longer than {FILE_LEN_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to())
    })?;
    Ok(File { path: path.to_owned(), text })
}

fn parse<'a>(file: &'a File, report: &mut Report) -> Spanned<DeTable<'a>> {
    let (document, errors) = DeTable::parse_recoverable(&file.text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
        report.error(Spot { file, offset }, format!("not valid TOML: {message}"), "");
    }
    document
}

fn sorted(mut list: Vec<Diagnostic>, files: &[File]) -> Vec<Diagnostic> {
    list.sort_by_key(|one| {
        let place = files.iter().position(|file| file.path == one.file);
        (place, one.line)
    });
    list.dedup();
    list
}
