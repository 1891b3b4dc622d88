//! The registrations of application services, as the operator has listed them.

use std::path::{Path, PathBuf};

use appservices::{Registration, Services, ServicesOptions, conflicts};
use outbound::{Egress, EgressError};
use ruma::ServerName;

use crate::configuration::Configuration;

/// What is wrong with a registration.
pub(crate) struct RegistrationProblem {
    /// The file, or the folder.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    pub(crate) text: String,
}

/// Reads all registrations, and says everything that is wrong with them.
pub(crate) fn read(paths: &[PathBuf], server_name: &ServerName) -> (Vec<Registration>, Vec<RegistrationProblem>) {
    let (mut read, mut files, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let listed = files_at(path).unwrap_or_else(|error| {
            problems.push(RegistrationProblem { path: path.clone(), text: format!("it cannot be read: {error}") });
            Vec::new()
        });
        for file in listed {
            match read_file(&file, server_name) {
                Ok(registration) => {
                    read.push(registration);
                    files.push(file);
                }
                Err(text) => problems.push(RegistrationProblem { path: file, text }),
            }
        }
    }
    for (index, text) in conflicts(&read) {
        problems.push(RegistrationProblem { path: files[index].clone(), text });
    }
    (read, problems)
}

/// The file itself, or those in a folder that end in `.yaml` or `.yml`, in the order of their names.
fn files_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<std::io::Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, server_name: &ServerName) -> Result<Registration, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    Registration::parse(&text, server_name).map_err(|error| error.to_string())
}

/// The services of a configuration that was checked.
pub(crate) fn services(configuration: &Configuration, egress: &Egress) -> Result<Services, EgressError> {
    let paths = &configuration.application_services_registrations.0;
    if paths.is_empty() {
        return Ok(Services::default());
    }
    let (registrations, problems) = read(paths, &configuration.server_name);
    for RegistrationProblem { path, text } in problems {
        tracing::error!(path = %path.display(), text, "the registration of an application service cannot be used");
    }
    let options = ServicesOptions { legacy: configuration.application_services_legacy };
    Ok(Services::new(registrations, &egress.service_client()?, options))
}
