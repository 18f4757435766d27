//! Which roles the roots of a mesh may have together, and how they may change (OSM's rules).

use std::collections::BTreeMap;

use super::root::{Role, RootName};

/// Why roles are not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InadmissibleRoles {
    /// Nobody would sign.
    #[error("spec.role: no MeshRootCertificate is active; set the role of one to active")]
    NoneActive,
    /// Both roots in use are passive.
    #[error("spec.role: {first} and {second} are both passive; set the role of one to active")]
    BothPassive {
        /// One.
        first: RootName,
        /// The other.
        second: RootName,
    },
    /// More than two are in use.
    #[error("spec.role: {} are all active or passive, two at most can be; set the role of one to inactive", list(.0))]
    TooMany(Vec<RootName>),
    /// Another object has the role that a new one wants.
    #[error("spec.role: {other} is {role} already; create {name} with the other role and change roles step by step")]
    RoleTaken {
        /// The new object.
        name: RootName,
        /// The one that is there.
        other: RootName,
        /// `active` or `passive`.
        role: &'static str,
    },
    /// From active to inactive or back in one step.
    #[error("spec.role: {name} cannot go from {from} to {to}; make it passive first")]
    SkipsPassive {
        /// The object.
        name: RootName,
        /// Its role before.
        from: &'static str,
        /// Its role after.
        to: &'static str,
    },
}

fn list(names: &[RootName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A change of one MeshRootCertificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// It is created.
    Create(RootName, Role),
    /// Its spec changes.
    Update(RootName, Role),
}

/// Whether the roles of all MeshRootCertificates are a step of a rotation: one in use must be active, two must not both
/// be passive, and there are never more.
///
/// # Errors
/// [`InadmissibleRoles`] with the remedy.
pub fn check_roles(roles: &BTreeMap<RootName, Role>) -> Result<(), InadmissibleRoles> {
    let in_use: Vec<(&RootName, Role)> =
        roles.iter().map(|(name, role)| (name, *role)).filter(|(_, role)| *role != Role::Inactive).collect();
    match in_use.as_slice() {
        [(first, Role::Passive), (second, Role::Passive)] => {
            Err(InadmissibleRoles::BothPassive { first: (*first).clone(), second: (*second).clone() })
        }
        [] | [(_, Role::Passive)] => Err(InadmissibleRoles::NoneActive),
        [_] | [_, _] => Ok(()),
        many => Err(InadmissibleRoles::TooMany(many.iter().map(|(name, _)| (*name).clone()).collect())),
    }
}

/// Whether a change of one MeshRootCertificate is allowed where the others, and the changed one before the change, have
/// the roles `before`. What cannot change at all (trust domain, provider) is the schema's business.
///
/// # Errors
/// [`InadmissibleRoles`] with the remedy.
pub fn admissible(before: &BTreeMap<RootName, Role>, change: &RoleChange) -> Result<(), InadmissibleRoles> {
    match change {
        RoleChange::Create(_, Role::Inactive) => Ok(()),
        RoleChange::Create(name, role) => {
            let others = || before.iter().filter(|(other, _)| *other != name);
            if let Some((other, _)) = others().find(|(_, theirs)| *theirs == role) {
                return Err(InadmissibleRoles::RoleTaken {
                    name: name.clone(),
                    other: other.clone(),
                    role: word(*role),
                });
            }
            let mut in_use: Vec<RootName> =
                others().filter(|(_, role)| **role != Role::Inactive).map(|(name, _)| name.clone()).collect();
            if in_use.len() >= 2 {
                in_use.push(name.clone());
                return Err(InadmissibleRoles::TooMany(in_use));
            }
            Ok(())
        }
        RoleChange::Update(name, role) => {
            let old = before.get(name).copied();
            if let (Some(from @ Role::Active), Role::Inactive) | (Some(from @ Role::Inactive), Role::Active) =
                (old, role)
            {
                let (from, to) = (word(from), word(*role));
                return Err(InadmissibleRoles::SkipsPassive { name: name.clone(), from, to });
            }
            // What does not touch roles must stay possible when roles are wrong already.
            if old == Some(*role) {
                return Ok(());
            }
            let mut after = before.clone();
            after.insert(name.clone(), *role);
            check_roles(&after)
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Passive => "passive",
        Role::Inactive => "inactive",
    }
}
