//! One test in several variants.

/// Makes a test of an async function that takes a [`Variant`](crate::Variant), one for each variant named: `all`,
/// `aggregated`, `single`, `state_of_the_world` or `delta`.
///
/// `in_variants!(v2_silence, all)` makes the tests `v2_silence::sotw_ads`, `v2_silence::delta_ads`,
/// `v2_silence::sotw_single` and `v2_silence::delta_single`.
#[macro_export]
macro_rules! in_variants {
    ($rule:ident, all) => {
        $crate::in_variants!(
            $rule,
            [sotw_ads SOTW_ADS, delta_ads DELTA_ADS, sotw_single SOTW_SINGLE, delta_single DELTA_SINGLE]
        );
    };
    ($rule:ident, aggregated) => {
        $crate::in_variants!($rule, [sotw_ads SOTW_ADS, delta_ads DELTA_ADS]);
    };
    ($rule:ident, single) => {
        $crate::in_variants!($rule, [sotw_single SOTW_SINGLE, delta_single DELTA_SINGLE]);
    };
    ($rule:ident, state_of_the_world) => {
        $crate::in_variants!($rule, [sotw_ads SOTW_ADS, sotw_single SOTW_SINGLE]);
    };
    ($rule:ident, delta) => {
        $crate::in_variants!($rule, [delta_ads DELTA_ADS, delta_single DELTA_SINGLE]);
    };
    ($rule:ident, [$($test:ident $variant:ident),+]) => {
        mod $rule {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$rule($crate::Variant::$variant).await;
                }
            )+
        }
    };
}

/// Makes a test of an async function that takes an [`EnvoyVersion`](crate::EnvoyVersion) and a
/// [`Protocol`](crate::Protocol), one for each version and protocol: `all`, or `delta` alone.
#[macro_export]
macro_rules! in_envoys {
    ($rule:ident, all) => {
        $crate::in_envoys!(
            $rule,
            [
                oldest_delta Oldest Delta,
                newest_delta Newest Delta,
                oldest_sotw Oldest StateOfTheWorld,
                newest_sotw Newest StateOfTheWorld
            ]
        );
    };
    ($rule:ident, delta) => {
        $crate::in_envoys!($rule, [oldest_delta Oldest Delta, newest_delta Newest Delta]);
    };
    ($rule:ident, [$($test:ident $version:ident $protocol:ident),+]) => {
        mod $rule {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$rule($crate::EnvoyVersion::$version, $crate::Protocol::$protocol).await;
                }
            )+
        }
    };
}
