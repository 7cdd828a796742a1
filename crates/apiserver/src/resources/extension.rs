//! Kinds by which others extend or tune a cluster. They are stored; which of them do something, `docs/api.md` says.

use super::columns::{AGE, CREATED, NAME, column, number};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, count};

const ADMISSION: Resource = Resource {
    group: "admissionregistration.k8s.io",
    namespaced: false,
    generation: true,
    categories: &["api-extensions"],
    ..CORE
};

const FLOW: Resource = Resource {
    group: "flowcontrol.apiserver.k8s.io",
    namespaced: false,
    status: StatusRule::Separate,
    generation: true,
    ..CORE
};

pub(super) const RUNTIME_CLASS: Resource = Resource {
    kind: Kind::RuntimeClass,
    name: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    group: "node.k8s.io",
    namespaced: false,
    columns: &[NAME, column("Handler", Cell::At("/handler")), AGE],
    ..CORE
};

pub(super) const VALIDATING_WEBHOOK_CONFIGURATION: Resource = Resource {
    kind: Kind::ValidatingWebhookConfiguration,
    name: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    columns: &[NAME, number("Webhooks", Cell::Of(count::webhooks)), AGE],
    ..ADMISSION
};

pub(super) const MUTATING_WEBHOOK_CONFIGURATION: Resource = Resource {
    kind: Kind::MutatingWebhookConfiguration,
    name: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    columns: &[NAME, number("Webhooks", Cell::Of(count::webhooks)), AGE],
    ..ADMISSION
};

pub(super) const VALIDATING_ADMISSION_POLICY: Resource = Resource {
    kind: Kind::ValidatingAdmissionPolicy,
    name: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    status: StatusRule::Separate,
    columns: &[
        NAME,
        number("Validations", Cell::Of(count::validations)),
        column("ParamKind", Cell::At("/spec/paramKind/kind")),
        AGE,
    ],
    ..ADMISSION
};

pub(super) const VALIDATING_ADMISSION_POLICY_BINDING: Resource = Resource {
    kind: Kind::ValidatingAdmissionPolicyBinding,
    name: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    columns: &[
        NAME,
        column("PolicyName", Cell::At("/spec/policyName")),
        column("ParamRef", Cell::At("/spec/paramRef/name")),
        AGE,
    ],
    ..ADMISSION
};

pub(super) const MUTATING_ADMISSION_POLICY: Resource = Resource {
    kind: Kind::MutatingAdmissionPolicy,
    name: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    columns: &[
        NAME,
        number("Mutations", Cell::Of(count::mutations)),
        column("ParamKind", Cell::At("/spec/paramKind/kind")),
        AGE,
    ],
    ..ADMISSION
};

pub(super) const MUTATING_ADMISSION_POLICY_BINDING: Resource = Resource {
    kind: Kind::MutatingAdmissionPolicyBinding,
    name: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    columns: VALIDATING_ADMISSION_POLICY_BINDING.columns,
    ..ADMISSION
};

pub(super) const FLOW_SCHEMA: Resource = Resource {
    kind: Kind::FlowSchema,
    name: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    columns: &[
        NAME,
        column("PriorityLevel", Cell::At("/spec/priorityLevelConfiguration/name")),
        number("MatchingPrecedence", Cell::Count("/spec/matchingPrecedence")),
        column("DistinguisherMethod", Cell::At("/spec/distinguisherMethod/type")),
        AGE,
    ],
    ..FLOW
};

pub(super) const PRIORITY_LEVEL_CONFIGURATION: Resource = Resource {
    kind: Kind::PriorityLevelConfiguration,
    name: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    columns: &[NAME, column("Type", Cell::At("/spec/type")), AGE],
    ..FLOW
};

pub(super) const API_SERVICE: Resource = Resource {
    kind: Kind::APIService,
    name: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    group: "apiregistration.k8s.io",
    categories: &["api-extensions"],
    namespaced: false,
    status: StatusRule::Separate,
    columns: &[NAME, column("Service", Cell::At("/spec/service/name")), CREATED],
    ..CORE
};
