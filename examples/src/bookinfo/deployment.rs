//! Which applications there are, under the names that Istio gives their Deployments.

use std::{fmt, str::FromStr};

/// The four services of bookinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// The page that a browser opens.
    Productpage,
    /// Facts about a book.
    Details,
    /// What readers think of it.
    Reviews,
    /// How many stars they give it.
    Ratings,
}

impl ServiceKind {
    /// The service's name in the registry, which is also its label `app`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Productpage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }
}

/// One version of one service: what Istio's bookinfo has a Deployment for.
///
/// ```
/// use mesh_examples::bookinfo::Deployment;
/// let reviews: Deployment = "reviews-v2".parse().unwrap();
/// assert_eq!(reviews.to_string(), "reviews-v2");
/// assert!("reviews-v9".parse::<Deployment>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Deployment {
    /// The service.
    pub service: ServiceKind,
    /// Its label `version`.
    pub version: &'static str,
}

impl Deployment {
    /// All eight, productpage first.
    pub const ALL: [Self; 8] = [
        Self { service: ServiceKind::Productpage, version: "v1" },
        Self { service: ServiceKind::Details, version: "v1" },
        Self { service: ServiceKind::Details, version: "v2" },
        Self { service: ServiceKind::Reviews, version: "v1" },
        Self { service: ServiceKind::Reviews, version: "v2" },
        Self { service: ServiceKind::Reviews, version: "v3" },
        Self { service: ServiceKind::Ratings, version: "v1" },
        Self { service: ServiceKind::Ratings, version: "v2" },
    ];

    /// Who it is in the mesh: Istio's names, labels and service account.
    #[must_use]
    pub fn workload(self) -> mesh::Workload {
        let app = self.service.name();
        mesh::Workload::new("default", &self.to_string())
            .with_labels(mesh::Labels::from_iter([("app", app), ("version", self.version)]))
            .with_service_account(&format!("bookinfo-{app}"))
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service.name(), self.version)
    }
}

impl FromStr for Deployment {
    type Err = UnknownDeployment;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|deployment| deployment.to_string() == name)
            .ok_or_else(|| UnknownDeployment(name.into()))
    }
}

/// Bookinfo has no deployment of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDeployment(String);

impl fmt::Display for UnknownDeployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no service {:?}; there are", self.0)?;
        for (index, deployment) in Deployment::ALL.iter().enumerate() {
            write!(f, "{}{deployment}", if index == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownDeployment {}
