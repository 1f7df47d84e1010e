use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const LIMITS: StepLimits = StepLimits { step_tokens: 128, chunk_tokens: 32, max_running: 8, draft_tokens: 0 };

fn scope(salt: &str) -> CacheScope {
    CacheScope { shared_tokens: 0, salt: salt.into() }
}

fn prompt(tokens: usize, seed: u32) -> Vec<u32> {
    (0..tokens as u32).map(|i| seed * 10_000 + i).collect()
}

fn submit(scheduler: &mut Scheduler, id: SequenceId, tokens: usize, max_answer: usize) {
    let sequence = Sequence::new(id, prompt(tokens, id as u32), max_answer, scope("s"));
    scheduler.submit(sequence).unwrap();
}

/// Pins a prefix as if it had been read from a file.
fn restore(scheduler: &mut Scheduler, prefix: &[u32]) -> Vec<BlockId> {
    let blocks: Vec<_> = (0..blocks_for(prefix.len())).map(|_| scheduler.pool.allocate().unwrap()).collect();
    scheduler.pin_shared(&prefix.to_vec().into(), &blocks)
}

/// Plans a step and pretends to compute it; every draw gives token 7.
fn step(scheduler: &mut Scheduler) -> Plan {
    let plan = scheduler.plan();
    for share in &plan.shares {
        scheduler.computed(*share);
        if share.draws {
            scheduler.push_token(share.id, 7);
        }
    }
    scheduler.pool.check();
    plan
}

fn shares(plan: &Plan) -> Vec<(SequenceId, usize)> {
    plan.shares.iter().map(|s| (s.id, s.count)).collect()
}

#[test]
fn a_prompt_alone_is_read_in_large_steps_and_then_decodes() {
    let mut scheduler = Scheduler::new(64, LIMITS);
    submit(&mut scheduler, 1, 300, 10);
    let counts: Vec<_> = (0..5).map(|_| shares(&step(&mut scheduler))[0].1).collect();
    assert_eq!(counts, [128, 128, 44, 1, 1]);
}

#[test]
fn while_others_decode_a_long_prompt_is_read_in_small_chunks() {
    let mut scheduler = Scheduler::new(256, LIMITS);
    submit(&mut scheduler, 1, 10, 500);
    submit(&mut scheduler, 2, 10, 500);
    step(&mut scheduler);
    submit(&mut scheduler, 3, 3000, 5);
    for _ in 0..90 {
        assert_eq!(shares(&step(&mut scheduler)), [(1, 1), (2, 1), (3, 32)], "every step carries every decode");
    }
}

#[test]
fn a_short_question_does_not_wait_for_a_long_prompt_nor_starve_it() {
    let mut scheduler = Scheduler::new(256, LIMITS);
    submit(&mut scheduler, 1, 3000, 5);
    submit(&mut scheduler, 2, 40, 5);
    let plan = step(&mut scheduler);
    assert_eq!(shares(&plan), [(1, 88), (2, 40)]);
    assert!(plan.shares[1].draws);
}

#[test]
fn a_second_request_reuses_the_prefix_and_still_computes_one_token() {
    let mut scheduler = Scheduler::new(64, LIMITS);
    submit(&mut scheduler, 1, 96, 5);
    step(&mut scheduler);
    scheduler.remove(1);
    scheduler.submit(Sequence::new(2, prompt(96, 1), 5, scope("s"))).unwrap();
    assert_eq!(shares(&step(&mut scheduler)), [(2, 32)]);
    assert_eq!(scheduler.get(2).unwrap().cached, 64);
    scheduler.submit(Sequence::new(3, prompt(97, 1), 5, scope("s"))).unwrap();
    assert_eq!(shares(&step(&mut scheduler)), [(2, 1), (3, 1)]);
    assert_eq!(scheduler.get(3).unwrap().cached, 96);
}

#[test]
fn requests_that_arrive_together_compute_their_common_prefix_once() {
    let mut scheduler = Scheduler::new(256, LIMITS);
    let core = prompt(512, 1);
    for id in 1..=4 {
        let mut tokens = core.clone();
        tokens.extend(prompt(40, 1 + id as u32));
        let scope = CacheScope { shared_tokens: 512, salt: id.to_string() };
        scheduler.submit(Sequence::new(id, tokens, 5, scope)).unwrap();
    }
    let mut computed = 0;
    while (1..=4).any(|id| scheduler.get(id).unwrap().tokens.len() == 552) {
        computed += step(&mut scheduler).shares.iter().filter(|s| s.count > 1).map(|s| s.count).sum::<usize>();
    }
    assert_eq!(computed, 512 + 4 * 40);
    let cached: Vec<_> = (1..=4).map(|id| scheduler.get(id).unwrap().cached).collect();
    assert_eq!(cached, [0, 512, 512, 512]);
}

#[test]
fn when_blocks_run_out_the_newest_waits_and_comes_back_through_its_own_prefix() {
    let mut scheduler = Scheduler::new(8, LIMITS);
    submit(&mut scheduler, 1, 90, 150);
    submit(&mut scheduler, 2, 90, 60);
    let preempted = (0..200).find_map(|_| step(&mut scheduler).preempted.first().copied());
    assert_eq!(preempted, Some(2));
    assert_eq!((scheduler.running(), scheduler.waiting()), (1, 1));
    let length = scheduler.get(2).unwrap().tokens.len();
    scheduler.remove(1);
    let plan = step(&mut scheduler);
    assert_eq!(plan.shares[0].id, 2);
    assert_eq!(plan.shares[0].start, (length - 1) / 32 * 32, "only what is not in full blocks is computed again");
    assert_eq!(scheduler.get(2).unwrap().cached, 0, "its own blocks are no prefix hit");
}

#[test]
fn a_request_that_can_never_fit_is_refused_at_once() {
    let mut scheduler = Scheduler::new(8, LIMITS);
    let never = scheduler.submit(Sequence::new(1, prompt(200, 1), 100, scope("s"))).unwrap_err();
    assert_eq!(never, NeverFits { needed: 10, available: 8, pinned: 0 });
    restore(&mut scheduler, &prompt(64, 9));
    let never = scheduler.submit(Sequence::new(1, prompt(200, 1), 20, scope("s"))).unwrap_err();
    assert_eq!(never, NeverFits { needed: 7, available: 6, pinned: 2 });
    assert!(scheduler.is_idle());
}

#[test]
fn pinned_blocks_of_its_own_prefix_count_as_room() {
    let mut scheduler = Scheduler::new(8, LIMITS);
    let core = prompt(128, 1);
    restore(&mut scheduler, &core);
    let scope = CacheScope { shared_tokens: 128, salt: "x".into() };
    scheduler.submit(Sequence::new(1, prompt(200, 1), 50, scope)).unwrap();
    assert_eq!(shares(&step(&mut scheduler)), [(1, 72)]);
    assert_eq!(scheduler.get(1).unwrap().cached, 128);
}

#[test]
fn a_request_waits_while_blocks_are_short_and_none_overtakes_it() {
    let mut scheduler = Scheduler::new(8, LIMITS);
    submit(&mut scheduler, 1, 150, 30);
    step(&mut scheduler);
    submit(&mut scheduler, 2, 120, 30);
    submit(&mut scheduler, 3, 10, 5);
    step(&mut scheduler);
    assert_eq!((scheduler.running(), scheduler.waiting()), (1, 2));
    scheduler.remove(1);
    step(&mut scheduler);
    assert_eq!((scheduler.running(), scheduler.waiting()), (2, 0));
}

#[test]
fn no_more_sequences_run_than_allowed() {
    let mut scheduler = Scheduler::new(64, StepLimits { max_running: 2, ..LIMITS });
    (1..=5).for_each(|id| submit(&mut scheduler, id, 10, 5));
    step(&mut scheduler);
    assert_eq!((scheduler.running(), scheduler.waiting()), (2, 3));
}

#[test]
fn removing_a_sequence_frees_its_blocks_at_once() {
    let mut scheduler = Scheduler::new(64, LIMITS);
    submit(&mut scheduler, 1, 300, 10);
    step(&mut scheduler);
    assert_eq!(scheduler.pool.used(), 10);
    scheduler.remove(1).unwrap();
    assert_eq!(scheduler.pool.used(), 0);
    assert!(scheduler.remove(1).is_none());
    assert_eq!(step(&mut scheduler), Plan::default());
}

#[test]
fn a_prompt_that_is_to_be_pinned_is_read_whole_and_draws_nothing() {
    let mut scheduler = Scheduler::new(64, LIMITS);
    let core = prompt(160, 1);
    let scope = CacheScope { shared_tokens: 160, salt: String::new() };
    scheduler.submit(Sequence::new(1, core.clone(), 0, scope)).unwrap();
    assert!(!step(&mut scheduler).shares[0].draws && !scheduler.is_read(1));
    step(&mut scheduler);
    assert!(scheduler.is_read(1));
    assert_eq!(scheduler.find_shared(&core.clone().into()).unwrap().len(), 5);
    assert!(step(&mut scheduler).shares.is_empty());
}

#[test]
fn restoring_a_prefix_that_is_partly_cached_pins_each_of_its_blocks_once() {
    let mut scheduler = Scheduler::new(8, LIMITS);
    let core = prompt(96, 1);
    let scope = CacheScope { shared_tokens: 96, salt: "x".into() };
    scheduler.submit(Sequence::new(1, core[..40].to_vec(), 5, scope)).unwrap();
    step(&mut scheduler);
    let pinned = restore(&mut scheduler, &core);
    assert_eq!(scheduler.find_shared(&core.clone().into()), Some(pinned.clone()));
    scheduler.remove(1);
    assert_eq!((scheduler.pool.pinned(), scheduler.pool.used()), (3, 3));
    scheduler.unpin(&pinned);
    scheduler.pool.check();
    assert_eq!(scheduler.pool.free(), 8);
}

#[test]
fn the_end_of_a_pinned_prefix_is_copied_and_only_what_follows_is_read() {
    let mut scheduler = Scheduler::new(32, LIMITS);
    let core = prompt(74, 1);
    let pinned = restore(&mut scheduler, &core);
    assert_eq!((scheduler.find_shared(&core.clone().into()), scheduler.pool.pinned()), (Some(pinned.clone()), 3));
    let mut next = 0;
    let mut read = |scheduler: &mut Scheduler, tokens: Vec<u32>, shared_tokens: usize| {
        next += 1;
        let (sequence, scope) = (next, CacheScope { shared_tokens, salt: next.to_string() });
        scheduler.submit(Sequence::new(sequence, tokens, 5, scope)).unwrap();
        let plan = step(scheduler);
        let copied = plan.copies.iter().map(|copy| copy.from).collect::<Vec<_>>();
        assert!(plan.copies.iter().all(|copy| copy.to == scheduler.get(sequence).unwrap().blocks[2]));
        assert_eq!(scheduler.remove(sequence).unwrap().cached, plan.shares[0].start);
        (copied, plan.shares[0].count)
    };
    let question = [core.clone(), prompt(20, 2)].concat();
    assert_eq!(read(&mut scheduler, question.clone(), 74), (vec![pinned[2]], 20));
    assert_eq!(read(&mut scheduler, core.clone(), 74), (vec![pinned[2]], 1), "the last token's logits are wanted");
    let parting = [&core[..68], &prompt(20, 2)].concat();
    assert_eq!(read(&mut scheduler, parting, 74), (vec![pinned[2]], 20), "as far as they are alike");
    assert_eq!(read(&mut scheduler, question.clone(), 64), (vec![], 30), "nobody said that more is everybody's");
    let other = [&prompt(64, 3), &core[64..], &prompt(20, 2)].concat();
    assert_eq!(read(&mut scheduler, other, 74), (vec![], 94), "the same end of another prefix");
    scheduler.unpin(&pinned);
    assert_eq!(read(&mut scheduler, question, 74), (vec![], 30), "what is let go may be another's by now");
    assert_eq!((scheduler.find_shared(&core.into()), scheduler.pool.free()), (None, 32));
}

#[test]
fn prefixes_with_a_common_end_keep_it_once_and_lose_it_with_the_last_of_them() {
    let mut scheduler = Scheduler::new(8, LIMITS);
    let core = prompt(40, 1);
    let first = restore(&mut scheduler, &core);
    assert_eq!(restore(&mut scheduler, &core), first);
    scheduler.pool.check();
    assert_eq!((scheduler.pool.pinned(), scheduler.pool.used()), (2, 2));
    for found in [Some(first.clone()), None] {
        scheduler.unpin(&first);
        assert_eq!(scheduler.find_shared(&core.clone().into()), found);
    }
    scheduler.pool.check();
    assert_eq!(scheduler.pool.free(), 8);
}

/// A pool's memory that remembers which token, under which salt, was written where.
type Memory = Vec<Vec<Option<(u32, String)>>>;

/// Writes a share as a decoder would and checks that what precedes it in the cache is its own text.
fn write(memory: &mut Memory, scheduler: &Scheduler, share: Share) {
    let sequence = scheduler.get(share.id).unwrap();
    let scope = &sequence.scope;
    let salt = |at: usize| {
        let shared = (at / BLOCK_TOKENS + 1) * BLOCK_TOKENS <= scope.shared_tokens;
        if shared { String::new() } else { scope.salt.clone() }
    };
    for at in 0..share.start {
        let seen = memory[sequence.blocks[at / BLOCK_TOKENS] as usize][at % BLOCK_TOKENS].as_ref().unwrap();
        assert_eq!(seen.0, sequence.tokens[at], "sequence {} reads another's token at {at}", share.id);
        let pinned_end = at < scope.shared_tokens && seen.1.is_empty();
        assert!(seen.1 == salt(at) || pinned_end, "sequence {} reads across salts at {at}", share.id);
    }
    for (at, token) in (share.start..).zip(sequence.share_tokens(share)) {
        let block = sequence.blocks[at / BLOCK_TOKENS];
        memory[block as usize][at % BLOCK_TOKENS] = Some((token, salt(at)));
    }
}

/// Counts a share as computed and draws: mostly what was drafted. True if the answer ended.
fn take_in(scheduler: &mut Scheduler, share: Share, rng: &mut StdRng) -> bool {
    let Share { id, start, count, draft, draws } = share;
    let tokens = scheduler.get(id).unwrap().share_tokens(share);
    let mut accepted = 0;
    for row in 0..=draft {
        scheduler.computed(Share { start: start + row, count: count - draft, draft: 0, ..share });
        if !draws {
            return false;
        }
        let drafted = tokens[count - draft..].get(row).filter(|_| rng.random_bool(0.7));
        let drawn = drafted.copied().unwrap_or(rng.random_range(0..3));
        if scheduler.push_token(id, drawn) == scheduler.get(id).unwrap().max_answer {
            scheduler.remove(id).unwrap();
            return true;
        }
        if tokens[count - draft..].get(row) != Some(&drawn) {
            break;
        }
        accepted += 1;
    }
    if draft > 0 {
        scheduler.settle(id, accepted);
        let sequence = scheduler.get(id).unwrap();
        assert!(sequence.blocks.len() <= blocks_for(sequence.tokens.len()), "what the draft took is given back");
    }
    false
}

#[test]
fn a_draft_takes_no_block_that_another_sequence_may_need() {
    let limits = StepLimits { draft_tokens: 16, ..LIMITS };
    for (blocks, expected) in [(6, true), (4, false)] {
        let mut scheduler = Scheduler::new(blocks, limits);
        scheduler.submit(Sequence::new(1, vec![7; BLOCK_TOKENS - 1], 40, scope("s"))).unwrap();
        submit(&mut scheduler, 2, 40, 20);
        step(&mut scheduler);
        // The first sequence stands at the end of its block: whatever is drafted for it lies in another.
        let plan = scheduler.plan();
        assert_eq!(plan.shares[0].draft > 0, expected, "{blocks} blocks: {plan:?}");
        assert!(plan.preempted.is_empty());
    }
}

#[test]
fn nothing_is_drafted_while_a_prompt_is_read_nor_beyond_the_answers_length() {
    let limits = StepLimits { draft_tokens: 16, ..LIMITS };
    let mut scheduler = Scheduler::new(64, limits);
    scheduler.submit(Sequence::new(1, vec![7; 60], 4, scope("s"))).unwrap();
    step(&mut scheduler);
    submit(&mut scheduler, 2, 300, 2);
    let first = scheduler.plan();
    assert_eq!(first.shares[0].draft, 2, "four tokens in all: one is drawn, one more comes with any step: {first:?}");
    let share = first.shares[0];
    for row in 0..3 {
        scheduler.computed(Share { start: share.start + row, count: 1, draft: 0, ..share });
        scheduler.push_token(1, if row == 0 { 7 } else { 9 });
        if row == 1 {
            break;
        }
    }
    scheduler.settle(1, 1);
    scheduler.computed(first.shares[1]);
    let second = scheduler.plan();
    assert!(second.shares.iter().all(|share| share.draft == 0), "{second:?}");
}

#[test]
fn random_operations_leak_no_block_and_never_mix_up_contents() {
    let (mut preemptions, mut drafted, mut copied) = (0, 0, 0);
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let blocks = 40;
        let mut memory: Memory = vec![vec![None; BLOCK_TOKENS]; blocks];
        let limits = StepLimits { step_tokens: 96, chunk_tokens: 20, max_running: 6, draft_tokens: 16 };
        let mut scheduler = Scheduler::new(blocks, limits);
        let mut alive: Vec<SequenceId> = Vec::new();
        let mut pins: Vec<Vec<BlockId>> = Vec::new();
        let core = prompt(100, 1);
        for id in 0..500 {
            match rng.random_range(0..10) {
                0..3 => {
                    let shared = if rng.random_bool(0.6) { 100 } else { 0 };
                    let mut tokens = core[..shared].to_vec();
                    tokens.extend((0..rng.random_range(1..300)).map(|i| i % rng.random_range(2..4)));
                    let scope = CacheScope { shared_tokens: shared, salt: rng.random_range(0..3).to_string() };
                    if scheduler.submit(Sequence::new(id, tokens, rng.random_range(1..200), scope)).is_ok() {
                        alive.push(id);
                    }
                }
                3 if !alive.is_empty() => {
                    let id = alive.swap_remove(rng.random_range(0..alive.len()));
                    assert!(scheduler.remove(id).is_some());
                }
                4 if pins.len() < 2 => {
                    let fresh: Vec<_> = (0..4).filter_map(|_| scheduler.pool.allocate()).collect();
                    if fresh.len() == 4 {
                        for (at, token) in core.iter().enumerate() {
                            let block = fresh[at / BLOCK_TOKENS] as usize;
                            memory[block][at % BLOCK_TOKENS] = Some((*token, String::new()));
                        }
                        pins.push(scheduler.pin_shared(&core.clone().into(), &fresh));
                    } else {
                        scheduler.pool.release_all(&fresh);
                    }
                }
                5 if !pins.is_empty() => scheduler.unpin(&pins.pop().unwrap()),
                _ => {}
            }
            for _ in 0..rng.random_range(1..5) {
                let plan = scheduler.plan();
                preemptions += plan.preempted.len();
                copied += plan.copies.len();
                for copy in &plan.copies {
                    memory[copy.to as usize] = memory[copy.from as usize].clone();
                }
                for share in &plan.shares {
                    write(&mut memory, &scheduler, *share);
                }
                for share in &plan.shares {
                    let ended = take_in(&mut scheduler, *share, &mut rng);
                    drafted += usize::from(share.draft > 0);
                    alive.retain(|id| !ended || *id != share.id);
                }
                for stuck in &plan.stuck {
                    scheduler.remove(*stuck).unwrap();
                    alive.retain(|id| id != stuck);
                }
                scheduler.pool.check();
                assert!(!plan.shares.is_empty() || scheduler.is_idle() || !plan.stuck.is_empty(), "work stands still");
            }
        }
        alive.iter().for_each(|id| drop(scheduler.remove(*id).unwrap()));
        assert_eq!(scheduler.pool.used(), scheduler.pool.pinned());
        pins.iter().for_each(|pin| scheduler.unpin(pin));
        assert_eq!((scheduler.pool.used(), scheduler.pool.free()), (0, blocks));
    }
    assert!(drafted > 1000, "hardly anything was drafted: {drafted}");
    assert!(copied > 100, "the end of a pin was hardly ever copied: {copied}");
    assert!(preemptions > 20, "blocks hardly ever ran short: {preemptions}");
}
