use crate::config::PipeConfig;
use crate::rng::Rng;

/// Decides which packets are lost. The state of the burst model outlives changes of the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LossModel {
    bad: bool,
}

impl LossModel {
    /// Whether the next packet is lost.
    pub(crate) fn draw(&mut self, config: &PipeConfig, rng: &mut Rng) -> bool {
        let burst = match config.burst {
            Some(burst) => {
                let leaves = if self.bad { burst.r } else { burst.p };
                if rng.chance(leaves) {
                    self.bad = !self.bad;
                }
                self.bad
            }
            None => {
                self.bad = false;
                false
            }
        };
        burst | rng.chance(config.loss)
    }
}
