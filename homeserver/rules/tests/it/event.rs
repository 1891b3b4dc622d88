//! Events as signed JSON objects.

mod build;
