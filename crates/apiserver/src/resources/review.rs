//! Questions that are asked as objects: groups `authentication.k8s.io` and `authorization.k8s.io`.

use super::{CORE, Kind, Resource};

const WHO: Resource =
    Resource { group: "authentication.k8s.io", namespaced: false, transient: true, ..CORE };
const WHAT: Resource =
    Resource { group: "authorization.k8s.io", namespaced: false, transient: true, ..CORE };

pub(super) const SELF_SUBJECT_REVIEW: Resource = Resource {
    kind: Kind::SelfSubjectReview,
    name: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    ..WHO
};

pub(super) const TOKEN_REVIEW: Resource = Resource {
    kind: Kind::TokenReview,
    name: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    ..WHO
};

pub(super) const LOCAL_SUBJECT_ACCESS_REVIEW: Resource = Resource {
    kind: Kind::LocalSubjectAccessReview,
    name: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    ..WHAT
};

pub(super) const SELF_SUBJECT_ACCESS_REVIEW: Resource = Resource {
    kind: Kind::SelfSubjectAccessReview,
    name: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    ..WHAT
};

pub(super) const SELF_SUBJECT_RULES_REVIEW: Resource = Resource {
    kind: Kind::SelfSubjectRulesReview,
    name: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    ..WHAT
};

pub(super) const SUBJECT_ACCESS_REVIEW: Resource = Resource {
    kind: Kind::SubjectAccessReview,
    name: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    ..WHAT
};
