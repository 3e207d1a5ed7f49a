//! The query protocol of STS and IAM: form requests in, XML answers out, and a small reader for
//! our own clients.

mod form;
mod reader;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use form::Form;
pub use reader::{ReadError, error_of, text_of};
pub use request::{AssumeRole, CreateRole, PutRolePolicy, QueryRequest, RolePolicyName};
pub use response::{
    AssumedRole, RoleView, assume_role, create_role, get_caller_identity, get_role,
    get_role_policy, no_result,
};

/// Namespace and API version of STS.
pub const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// Version parameter of STS.
pub const STS_VERSION: &str = "2011-06-15";
/// Namespace of IAM.
pub const IAM_NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";
/// Version parameter of IAM.
pub const IAM_VERSION: &str = "2010-05-08";
