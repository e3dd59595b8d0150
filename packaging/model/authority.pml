/*
 * Who may say what, and until when: leases, renewals, epochs, federated rounds and
 * receipts, with an adversary who holds a lease of her own and steals an epoch key that
 * has ended. docs/protocol.md says what this model covers; `make model-check` checks it.
 *
 * Everything is symbolic. A signature is who made it; a certificate is the fields that
 * verifiers look at; whatever was signed once can be shown to anybody at any time. Each
 * step below is one decision of one party, and happens as a whole.
 *
 * Every decision asks rules. ASK(mutant, rule) is the rule, or nothing where the model
 * is built with -DMUTANT_<mutant>=1. A step that only a mutant takes says so in the
 * trail ("refused-by"): there the code has to refuse. HOLDS(property, claim) is what must
 * be true of all reachable states, and names what a mutant breaks.
 *
 *   alice  tenant 1; serves model 1, contributes
 *   bob    tenant 1; contributes, decrypts
 *   eve    tenant 2, with an image of her own; serves model 2, contributes, decrypts
 *
 * Round 1 is tenant 1's. Round 2 is tenant 1's, under another typed name, or tenant 2's.
 * A cohort of one stands for the smallest that a round allows.
 */

mtype = { alice, bob, eve, aggregator };

#define ALICE 0
#define BOB   1
#define EVE   2
#define AGG   2 /* the aggregator's place in seen2: what Eve has seen is of no interest */

#define WHO(a)       ((a) == ALICE -> alice : ((a) == BOB -> bob : eve))
#define BIT(a)       (1 << (a))
#define TENANT(a)    ((a) == EVE -> 2 : 1)
#define MAYDECRYPT(a) ((a) != ALICE)

/*
 * Time in ticks. Epoch 1 is valid before E1_END, epoch 2 from E2_START on. A lease lives
 * for LEASE ticks, a round takes contributions for ROUND.
 */
#define E2_START 1
#define E1_END   2
#define LEASE    2
#define ROUND    2
#define LAST     2

/* The mutants. Each is off unless it is asked for with -DMUTANT_<name>=1. */
#ifndef MUTANT_ANY_LEASE_CONTRIBUTES /* the aggregator takes a contribution under whatever lease */
#define MUTANT_ANY_LEASE_CONTRIBUTES 0
#endif
#ifndef MUTANT_ANY_LEASE_ADMITTED /* the broker admits a contribution under whatever lease */
#define MUTANT_ANY_LEASE_ADMITTED 0
#endif
#ifndef MUTANT_ANY_LEASE_CLOSES /* the broker takes a result under whatever lease, and destroys the round's key */
#define MUTANT_ANY_LEASE_CLOSES 0
#endif
#ifndef MUTANT_CLOSES_WITHOUT_RELEASE /* the broker takes a result of an agent that never had the round's key */
#define MUTANT_CLOSES_WITHOUT_RELEASE 0
#endif
#ifndef MUTANT_ANY_LEASE_PUBLISHES /* the aggregator takes a result under whatever lease */
#define MUTANT_ANY_LEASE_PUBLISHES 0
#endif
#ifndef MUTANT_RESULT_OVERWRITTEN /* the aggregator takes another result in the place of the first */
#define MUTANT_RESULT_OVERWRITTEN 0
#endif
#ifndef MUTANT_RECEIPT_FOR_ANY_MODEL /* a receipt verifies for a model that its lease was not granted */
#define MUTANT_RECEIPT_FOR_ANY_MODEL 0
#endif
#ifndef MUTANT_KEY_FOR_ANY_TENANT /* a round's key is released to another tenant's agent */
#define MUTANT_KEY_FOR_ANY_TENANT 0
#endif
#ifndef MUTANT_KEY_FOR_ANY_ROLE /* a round's key is released to an agent that may contribute only */
#define MUTANT_KEY_FOR_ANY_ROLE 0
#endif
#ifndef MUTANT_KEY_BEFORE_CLOSE /* a round's key is released while the round is open */
#define MUTANT_KEY_BEFORE_CLOSE 0
#endif
#ifndef MUTANT_BACKDATED_ROUND /* a round of an epoch that is over by the verifier's clock */
#define MUTANT_BACKDATED_ROUND 0
#endif
#ifndef MUTANT_BACKDATED_CONTRIBUTION /* a contribution under a lease of such an epoch */
#define MUTANT_BACKDATED_CONTRIBUTION 0
#endif
#ifndef MUTANT_BACKDATED_TICKET /* a ticket of such an epoch */
#define MUTANT_BACKDATED_TICKET 0
#endif
#ifndef MUTANT_BACKDATED_RESULT /* a result under a lease of such an epoch */
#define MUTANT_BACKDATED_RESULT 0
#endif
#ifndef MUTANT_ROUND_BELOW_FLOOR /* a round of an epoch that a verified statement has retired */
#define MUTANT_ROUND_BELOW_FLOOR 0
#endif
#ifndef MUTANT_CONTRIBUTION_BELOW_FLOOR /* a contribution under a lease of such an epoch, at the aggregator */
#define MUTANT_CONTRIBUTION_BELOW_FLOOR 0
#endif
#ifndef MUTANT_ADMITTED_BELOW_FLOOR /* such a contribution at the broker, which does not ask its record of leases either */
#define MUTANT_ADMITTED_BELOW_FLOOR 0
#endif
#ifndef MUTANT_FINISHED_BELOW_FLOOR /* a result under such a lease at the broker, which does not ask its record of releases either */
#define MUTANT_FINISHED_BELOW_FLOOR 0
#endif
#ifndef MUTANT_TICKET_BELOW_FLOOR /* a ticket of such an epoch */
#define MUTANT_TICKET_BELOW_FLOOR 0
#endif
#ifndef MUTANT_RESULT_BELOW_FLOOR /* a result under a lease of such an epoch */
#define MUTANT_RESULT_BELOW_FLOOR 0
#endif
#ifndef MUTANT_RECEIPT_BELOW_FLOOR /* a receipt under a lease of such an epoch */
#define MUTANT_RECEIPT_BELOW_FLOOR 0
#endif
#ifndef MUTANT_AGENT_FORGETS_EPOCH /* an agent follows a broker into an epoch below the highest that it has seen */
#define MUTANT_AGENT_FORGETS_EPOCH 0
#endif
#ifndef MUTANT_RETIRE_FORGETS_FLOOR /* an epoch that is retired by another counts as active when the other is removed */
#define MUTANT_RETIRE_FORGETS_FLOOR 0
#endif
#ifndef MUTANT_FLOOR_NOT_KEPT /* the broker forgets the lowest epoch with the statement that named it */
#define MUTANT_FLOOR_NOT_KEPT 0
#endif
#ifndef MUTANT_RECLOSED_AFTER_RESTORE /* an old store closes a round again; the audit log is not asked */
#define MUTANT_RECLOSED_AFTER_RESTORE 0
#endif
#ifndef MUTANT_RESTORED_LOG_BELIEVED /* an old audit log is believed; no checkpoint is asked */
#define MUTANT_RESTORED_LOG_BELIEVED 0
#endif
#ifndef MUTANT_TICKET_SIGNED_AGAIN /* an old store signs a second ticket over the same cohort */
#define MUTANT_TICKET_SIGNED_AGAIN 0
#endif
#ifndef MUTANT_ACCOUNT_BY_NAME /* privacy is charged to the name that was typed */
#define MUTANT_ACCOUNT_BY_NAME 0
#endif
#ifndef MUTANT_ACCOUNT_RESTORED /* an old store says what was spent; the audit log is not asked */
#define MUTANT_ACCOUNT_RESTORED 0
#endif
#ifndef MUTANT_LEASE_END_NOT_ENFORCED /* nothing wipes the key when the lease ends */
#define MUTANT_LEASE_END_NOT_ENFORCED 0
#endif
#ifndef MUTANT_RENEWAL_CONTINUES_ANY /* an answer goes on under a renewal for another model */
#define MUTANT_RENEWAL_CONTINUES_ANY 0
#endif

#define ASK(mutant, rule) (mutant || (rule))
#define TELL(rule, name)  if :: (rule) :: else -> printf("  refused-by %e\n", name) fi
#define HOLDS(claim, name) if :: (claim) :: else -> printf("  violates %e\n", name); assert(false) fi

/* Rules, by the names that trails give them. */
mtype = { contributor_named, decryptor_named, key_granted, release_recorded, result_written_once, model_granted,
	epoch_runs, epoch_floor, log_asked, ticket_recorded, active_remains, lease_recorded, checkpoint_asked, account_asked, round_closed, lease_running, same_model };

/* Properties. */
mtype = { only_the_named_contribute, only_the_named_decrypt, only_who_had_the_key_publishes, a_result_stands,
	receipts_name_what_was_granted, an_ended_epoch_says_nothing, a_retired_epoch_stays_retired, a_round_has_one_cohort, a_round_has_one_ticket,
	a_budget_is_spent_once, a_key_waits_for_the_close, a_key_ends_with_its_lease, an_answer_has_one_model };

/* ---- state ---- */

byte now;

/* Epoch 1 is active from the beginning. floor is the highest min epoch that was ever
   activated. min2 is what the statement of epoch 2 says, 0 before there is one. */
bit held1 = 1, held2, prepared2, stolen;
byte min2, floor = 1;

/* Who has verified the statement of epoch 2: alice, bob, and the aggregator, for which it
   counts only if it retires epoch 1. */
bit seen2[3];

/* Leases: the epoch (0: none), ticks left of the guest's own (Eve enforces nothing), the
   round (1, 2) whose key it was granted, and the model that Alice's was granted, whose key
   is in her memory. */
byte lease[3], left[2], granted[3], key;

/* Rounds, in the broker's store. */
#define NONE      0
#define OPEN      1
#define CLOSED    2
#define PUBLISHED 3
byte state[2], tenant[2], epoch[2], age[2], cohort[2];

/* What the store does not lose: uploads and result at the aggregator, the audit log's
   records of releases, closings and publications. */
byte uploads[2], result[2], released[2], closedover[2];
byte restored; /* 1: an old store, 2: and an old audit log with it */

/* ---- rules that several steps ask ---- */

/* In an exchange an agent goes by the highest epoch that it has seen, because its clock is
   in the host's hands. Elsewhere a verifier goes by the highest min epoch that it knows of,
   and what is said now must be said in an epoch that runs by its own clock. */
#define SEES(a)     (seen2[a] -> 2 : 1)
#define FLOOR2(v)   (seen2[v] && min2 == 2)
#define RUNS(number) ((number) == 2 || now < E1_END)
#define HEARD(v, number) (RUNS(number) && ((number) == 2 || !FLOOR2(v)))
#define ENDED(v)    (FLOOR2(v) || now >= E1_END)

#define BROKERFLOOR ((MUTANT_RETIRE_FORGETS_FLOOR || MUTANT_FLOOR_NOT_KEPT) -> ((held2 && min2 == 2) -> 2 : 1) : floor)
#define PICK        ((held2 && now >= E2_START) -> 2 : ((held1 && now < E1_END && BROKERFLOOR < 2) -> 1 : 0))

/* A round ends with its epoch at the latest. Once the epoch is retired, nobody who knows
   goes on with it. */
#define TAKES(r)     (state[r] == OPEN && age[r] < ROUND && RUNS(epoch[r]))
#define KEPT(r)      (epoch[r] >= floor)
#define HASROUND(r)  (epoch[r] == 2 || !FLOOR2(AGG))

#define NAMED(r, a)     (TENANT(a) == tenant[r])
#define DECRYPTOR(r, a) (NAMED(r, a) && MAYDECRYPT(a))
#define GRANTED(r, a)   (granted[a] == (r) + 1)
#define LIVE(a)         (lease[a] != 0 && ((a) == EVE || left[a] > 0))

/* The log is the broker's, unless an old one was restored with the store: then it lacks
   round 1's records, and is behind the checkpoint kept elsewhere. */
#define LOGLOST(r)    ((r) == 0 && restored == 2)
#define LOGGED(r)     (LOGLOST(r) -> 0 : closedover[r])
#define AFFORDABLE(r, t) (LOGGED(1 - (r)) == 0 || tenant[1 - (r)] != (t))
#define INSTORE(r, t)    (cohort[1 - (r)] == 0 || tenant[1 - (r)] != (t))
#define MAYCHARGE(r, t)  (MUTANT_ACCOUNT_BY_NAME || (MUTANT_ACCOUNT_RESTORED -> INSTORE(r, t) : AFFORDABLE(r, t)))
#define CHECKPOINT    (restored != 2)

/* ---- steps ---- */

inline broker_uses() {
	TELL(PICK >= floor, epoch_floor);
	HOLDS(PICK >= floor, a_retired_epoch_stays_retired)
}

/* What stories ask for; no step does. */
#ifdef STORY_ROTATION
bit wentover, continued;
#define REMEMBER(what) what
#else
#define REMEMBER(what)
#endif

#define aggregator_sees(number) if :: (number) == 2 && min2 == 2 -> seen2[AGG] = 1 :: else fi

inline end_lease(a) {
	if
	:: left[a] > 0 ->
		left[a]--;
		if :: left[a] == 0 -> lease[a] = 0; granted[a] = 0 :: else fi
	:: else
	fi
}

inline tick() {
	now < LAST ->
	now++;
	printf("tick now=%d\n", now);
	end_lease(ALICE);
	end_lease(BOB);
	/* An expiry timer of its own wipes at the end, whatever else hangs. */
	if :: left[ALICE] == 0 && !MUTANT_LEASE_END_NOT_ENFORCED -> key = 0 :: else fi;
	if :: state[0] == OPEN && age[0] < ROUND -> age[0]++ :: else fi;
	if :: state[1] == OPEN && age[1] < ROUND -> age[1]++ :: else fi
}

inline prepare() { !prepared2 -> prepared2 = 1; printf("prepare epoch=2\n") }

inline activate(m) {
	prepared2 && min2 == 0 ->
	min2 = m; held2 = 1;
	printf("activate epoch=2 min=%d\n", m);
	floor = m
}

/* The last active epoch is not removed. */
inline retire1() {
	held1 && held2 && now >= E2_START ->
	held1 = 0;
	printf("retire epoch=1\n")
}
inline retire2() {
	held2 && held1 && now < E1_END && ASK(MUTANT_RETIRE_FORGETS_FLOOR, floor < 2) ->
	held2 = 0;
	printf("retire epoch=2\n");
	TELL(floor < 2, active_remains)
}
/* Somebody puts a directory of epochs back that is older than epoch 2. */
inline restore_epochs() {
	held2 && held1 ->
	held2 = 0;
	printf("restore-epochs\n")
}

/* An attested exchange: the broker picks the epoch, the agent remembers the highest, the
   grant is recorded, the key released. */
inline attest(a) {
	PICK != 0 && PICK >= SEES(a) ->
	printf("attest agent=%e epoch=%d\n", WHO(a), PICK);
	broker_uses();
	lease[a] = PICK; left[a] = LEASE; granted[a] = 0;
	if :: PICK == 2 -> seen2[a] = 1 :: else fi
}
inline attest_alice(m) {
	PICK != 0 && PICK >= SEES(ALICE) && !(left[ALICE] == 0 && key != 0) ->
	printf("attest agent=alice epoch=%d model=%d\n", PICK, m);
	broker_uses();
	lease[ALICE] = PICK; left[ALICE] = LEASE; key = m;
	if :: PICK == 2 -> seen2[ALICE] = 1 :: else fi
}
inline attest_eve() {
	PICK != 0 && (lease[EVE] != PICK || granted[EVE] != 0) ->
	printf("attest agent=eve epoch=%d model=2\n", PICK);
	broker_uses();
	lease[EVE] = PICK; granted[EVE] = 0
}

/* A renewal with an answer under way that goes on. */
inline renew_alice(m) {
	LIVE(ALICE) && PICK != 0 && PICK >= SEES(ALICE) && ASK(MUTANT_RENEWAL_CONTINUES_ANY, key == m) ->
	printf("renew agent=alice epoch=%d answering=%d model=%d\n", PICK, key, m);
	TELL(key == m, same_model);
	HOLDS(key == m, an_answer_has_one_model);
	broker_uses();
	REMEMBER(if :: PICK == 2 && lease[ALICE] == 1 -> continued = 1 :: else fi;)
	lease[ALICE] = PICK; left[ALICE] = LEASE;
	if :: PICK == 2 -> seen2[ALICE] = 1 :: else fi
}

inline answer() {
	key != 0 ->
	printf("answer agent=alice model=%d\n", key);
	TELL(LIVE(ALICE), lease_running);
	HOLDS(LIVE(ALICE), a_key_ends_with_its_lease)
}

inline open(r, t) {
	state[r] == NONE && (r == 0 || state[0] != NONE) && PICK != 0 && HEARD(AGG, PICK) &&
		MAYCHARGE(r, t) ->
	printf("open round=%d tenant=%d epoch=%d\n", r + 1, t, PICK);
	TELL(AFFORDABLE(r, t), account_asked);
	broker_uses();
	state[r] = OPEN; tenant[r] = t; epoch[r] = PICK;
	aggregator_sees(PICK)
}

inline contribute(r, a) {
	TAKES(r) && HASROUND(r) && closedover[r] == 0 && !(uploads[r] & BIT(a)) && LIVE(a) && HEARD(AGG, lease[a]) &&
		(a == EVE || HEARD(a, epoch[r])) && ASK(MUTANT_ANY_LEASE_CONTRIBUTES, NAMED(r, a)) ->
	printf("contribute round=%d agent=%e\n", r + 1, WHO(a));
	TELL(NAMED(r, a), contributor_named);
	HOLDS(NAMED(r, a), only_the_named_contribute);
	uploads[r] = uploads[r] | BIT(a);
	aggregator_sees(lease[a])
}

/* The broker does not rest on what the aggregator checked: somebody may hand it any
   contribution that an agent signed. */
inline admit(r, a) {
	TAKES(r) && KEPT(r) && LIVE(a) && RUNS(lease[a]) && lease[a] >= floor && ASK(MUTANT_ANY_LEASE_ADMITTED, NAMED(r, a)) ->
	printf("admit round=%d agent=%e\n", r + 1, WHO(a));
	TELL(NAMED(r, a), contributor_named);
	HOLDS(NAMED(r, a), only_the_named_contribute)
}

/* The broker admits the cohort's contributions, charges, records and signs the ticket,
   which the aggregator gets. If the record has the round already, the ticket is the
   recorded one. */
inline close(r, c) {
	state[r] == OPEN && KEPT(r) && (uploads[r] & c) == c && PICK != 0 && MAYCHARGE(r, tenant[r]) &&
		ASK(MUTANT_RECLOSED_AFTER_RESTORE, LOGGED(r) == 0 || LOGGED(r) == c) && ASK(MUTANT_RESTORED_LOG_BELIEVED, CHECKPOINT) ->
	printf("close round=%d cohort=%d epoch=%d\n", r + 1, c, PICK);
	TELL(AFFORDABLE(r, tenant[r]), account_asked);
	TELL(LOGGED(r) == 0 || LOGGED(r) == c, log_asked);
	TELL(CHECKPOINT, checkpoint_asked);
	broker_uses();
	HOLDS(closedover[r] == 0 || closedover[r] == c, a_round_has_one_cohort);
	TELL(closedover[r] == 0 || !MUTANT_TICKET_SIGNED_AGAIN, ticket_recorded);
	HOLDS(closedover[r] == 0 || !MUTANT_TICKET_SIGNED_AGAIN, a_round_has_one_ticket);
	HOLDS(closedover[1 - r] == 0 || tenant[1 - r] != tenant[r], a_budget_is_spent_once);
	REMEMBER(if :: PICK == 2 && epoch[r] == 1 -> wentover = 1 :: else fi;)
	state[r] = CLOSED; cohort[r] = c; closedover[r] = c; age[r] = 0;
	aggregator_sees(PICK)
}

/* A round's key leaves, in an exchange of its own, after the record of its release. The
   lease says that it was granted. */
inline release(r, a) {
	(state[r] == CLOSED || (MUTANT_KEY_BEFORE_CLOSE && state[r] == OPEN)) && KEPT(r) &&
		PICK != 0 && (a == EVE || PICK >= SEES(a)) && CHECKPOINT &&
		ASK(MUTANT_KEY_FOR_ANY_TENANT, NAMED(r, a)) && ASK(MUTANT_KEY_FOR_ANY_ROLE, MAYDECRYPT(a)) ->
	printf("release round=%d agent=%e epoch=%d\n", r + 1, WHO(a), PICK);
	TELL(state[r] == CLOSED, round_closed);
	TELL(DECRYPTOR(r, a), decryptor_named);
	broker_uses();
	HOLDS(state[r] == CLOSED, a_key_waits_for_the_close);
	HOLDS(DECRYPTOR(r, a), only_the_named_decrypt);
	released[r] = released[r] | BIT(a);
	lease[a] = PICK; granted[a] = r + 1;
	if
	:: a == EVE
	:: else -> left[a] = LEASE; if :: PICK == 2 -> seen2[a] = 1 :: else fi
	fi
}

/* A result on the aggregator's public port. Bob signs what he decrypted, value 1. Eve signs
   what she likes. */
inline publish(r, a, v) {
	closedover[r] != 0 && HASROUND(r) && LIVE(a) && (a == EVE || GRANTED(r, a)) && HEARD(AGG, lease[a]) && result[r] != v &&
		ASK(MUTANT_ANY_LEASE_PUBLISHES, DECRYPTOR(r, a) && GRANTED(r, a)) && ASK(MUTANT_RESULT_OVERWRITTEN, result[r] == 0) ->
	printf("publish round=%d agent=%e values=%d\n", r + 1, WHO(a), v);
	TELL(DECRYPTOR(r, a), decryptor_named);
	TELL(GRANTED(r, a), key_granted);
	TELL(result[r] == 0, result_written_once);
	HOLDS(DECRYPTOR(r, a), only_the_named_decrypt);
	HOLDS(released[r] & BIT(a), only_who_had_the_key_publishes);
	HOLDS(result[r] == 0, a_result_stands);
	result[r] = v;
	aggregator_sees(lease[a])
}

/* A result at the broker, which destroys the round's key. */
inline finish(r, a, v) {
	state[r] == CLOSED && KEPT(r) && LIVE(a) && RUNS(lease[a]) && lease[a] >= floor && (a == EVE || GRANTED(r, a)) && CHECKPOINT &&
		ASK(MUTANT_ANY_LEASE_CLOSES, DECRYPTOR(r, a)) &&
		ASK(MUTANT_ANY_LEASE_CLOSES || MUTANT_CLOSES_WITHOUT_RELEASE, GRANTED(r, a) && (released[r] & BIT(a))) ->
	printf("finish round=%d agent=%e values=%d\n", r + 1, WHO(a), v);
	TELL(DECRYPTOR(r, a), decryptor_named);
	TELL(GRANTED(r, a), key_granted);
	TELL(released[r] & BIT(a), release_recorded);
	HOLDS(DECRYPTOR(r, a), only_the_named_decrypt);
	HOLDS(released[r] & BIT(a), only_who_had_the_key_publishes);
	state[r] = PUBLISHED
}

/* Somebody puts an old store of round 1 back, once, from before it closed; with log, an
   audit log of the same age. */
inline restore(log) {
	state[0] >= CLOSED && restored == 0 ->
	printf("restore round=1 log=%d\n", log);
	restored = 1 + log; state[0] = OPEN; cohort[0] = 0; age[0] = ROUND
}

inline receipt(a, m, has) {
	lease[a] != 0 && ASK(MUTANT_RECEIPT_FOR_ANY_MODEL, has == m) ->
	printf("receipt agent=%e model=%d\n", WHO(a), m);
	TELL(has == m, model_granted);
	HOLDS(has == m, receipts_name_what_was_granted)
}

/* What the stolen key of epoch 1 can sign: a round for tenant 1 with a public key of
   Eve's, a ticket for any cohort, a lease that gives Eve everything. All is dated into
   the epoch. Nothing changes here if it is believed: that it can be is the violation,
   unless the epoch has not ended for whoever believes it. */
inline steal() {
	!stolen && (floor == 2 || now >= E1_END) ->
	stolen = 1;
	printf("steal epoch=1\n")
}
inline believed(v) {
	TELL(!FLOOR2(v), epoch_floor);
	TELL(RUNS(1), epoch_runs);
	HOLDS(!ENDED(v), an_ended_epoch_says_nothing)
}
#define FORGERY(v, belowfloor, backdated) (ASK(belowfloor, !FLOOR2(v)) && ASK(backdated, RUNS(1)))

inline forge_round(v, live, name) {
	stolen && live && FORGERY(v, MUTANT_ROUND_BELOW_FLOOR, MUTANT_BACKDATED_ROUND) ->
	printf("forge-round to=%e\n", name);
	believed(v)
}
inline forge_contribution(r) {
	stolen && TAKES(r) && HASROUND(r) && closedover[r] == 0 &&
		FORGERY(AGG, MUTANT_CONTRIBUTION_BELOW_FLOOR, MUTANT_BACKDATED_CONTRIBUTION) ->
	printf("forge-contribution round=%d to=aggregator\n", r + 1);
	believed(AGG)
}
/* The broker has its own record of leases and releases besides. */
inline forge_admission(r) {
	stolen && TAKES(r) && KEPT(r) && RUNS(1) && MUTANT_ADMITTED_BELOW_FLOOR ->
	printf("forge-admission round=%d to=broker\n", r + 1);
	TELL(floor < 2, epoch_floor);
	TELL(false, lease_recorded);
	HOLDS(false, an_ended_epoch_says_nothing)
}
inline forge_finish(r) {
	stolen && state[r] == CLOSED && KEPT(r) && RUNS(1) && MUTANT_FINISHED_BELOW_FLOOR ->
	printf("forge-finish round=%d to=broker\n", r + 1);
	TELL(floor < 2, epoch_floor);
	TELL(false, release_recorded);
	HOLDS(false, an_ended_epoch_says_nothing)
}
inline forge_ticket(r, v, live, name) {
	stolen && live && FORGERY(v, MUTANT_TICKET_BELOW_FLOOR, MUTANT_BACKDATED_TICKET) ->
	printf("forge-ticket round=%d to=%e\n", r + 1, name);
	believed(v)
}
inline forge_result(r) {
	stolen && closedover[r] != 0 && HASROUND(r) && result[r] == 0 && FORGERY(AGG, MUTANT_RESULT_BELOW_FLOOR, MUTANT_BACKDATED_RESULT) ->
	printf("forge-result round=%d to=aggregator\n", r + 1);
	believed(AGG)
}
/* An auditor has no clock of the time when an answer was given, only a floor. */
inline forge_receipt() {
	stolen && min2 == 2 && ASK(MUTANT_RECEIPT_BELOW_FLOOR, false) ->
	printf("forge-receipt to=auditor floor=2\n");
	TELL(false, epoch_floor);
	HOLDS(false, an_ended_epoch_says_nothing)
}
inline pose_as_broker(a) {
	stolen && ASK(MUTANT_AGENT_FORGETS_EPOCH, !seen2[a]) ->
	printf("pose-as-broker to=%e\n", WHO(a));
	TELL(!seen2[a], epoch_floor);
	HOLDS(!seen2[a], an_ended_epoch_says_nothing)
}

/* ---- who does what ---- */

active proctype Clock() {
end:	do
	:: d_step { tick() }
	od
}

/* The root, which signs statements, and whoever commands the broker. */
active proctype Operator() {
end:	do
	:: d_step { prepare() }
	:: d_step { activate(1) }
	:: d_step { activate(2) }
	:: d_step { retire1() }
	:: d_step { retire2() }
	:: d_step { restore_epochs() }
	:: d_step { open(0, 1) }
	:: d_step { open(1, 1) }
	:: d_step { open(1, 2) }
	:: d_step { close(0, 1) }
	:: d_step { close(0, 2) }
	:: d_step { close(0, 3) }
	:: d_step { close(0, 4) }
	:: d_step { close(1, 1) }
	:: d_step { close(1, 2) }
	:: d_step { close(1, 3) }
	:: d_step { close(1, 4) }
	:: d_step { restore(0) }
	:: d_step { restore(1) }
	od
}

active proctype Alice() {
end:	do
	:: d_step { attest_alice(1) }
	:: d_step { renew_alice(1) }
	:: d_step { renew_alice(2) }
	:: d_step { answer() }
	:: d_step { receipt(ALICE, key, key) }
	:: d_step { contribute(0, ALICE) }
	:: d_step { contribute(1, ALICE) }
	:: d_step { release(0, ALICE) }
	:: d_step { release(1, ALICE) }
	od
}

active proctype Bob() {
end:	do
	:: d_step { attest(BOB) }
	:: d_step { contribute(0, BOB) }
	:: d_step { contribute(1, BOB) }
	:: d_step { release(0, BOB) }
	:: d_step { release(1, BOB) }
	:: d_step { publish(0, BOB, 1) }
	:: d_step { publish(1, BOB, 1) }
	:: d_step { finish(0, BOB, 1) }
	:: d_step { finish(1, BOB, 1) }
	od
}

active proctype Eve() {
end:	do
	:: d_step { attest_eve() }
	:: d_step { contribute(0, EVE) }
	:: d_step { contribute(1, EVE) }
	:: d_step { admit(0, EVE) }
	:: d_step { admit(1, EVE) }
	:: d_step { release(0, EVE) }
	:: d_step { release(1, EVE) }
	:: d_step { publish(0, EVE, 2) }
	:: d_step { publish(1, EVE, 1) }
	:: d_step { publish(1, EVE, 2) }
	:: d_step { finish(0, EVE, 2) }
	:: d_step { finish(1, EVE, 1) }
	:: d_step { receipt(EVE, 1, 2) }
	:: d_step { receipt(EVE, 2, 2) }
	od
}

active proctype Thief() {
end:	do
	:: d_step { steal() }
	:: d_step { forge_round(AGG, true, aggregator) }
	:: d_step { forge_round(ALICE, LIVE(ALICE), alice) }
	:: d_step { forge_contribution(0) }
	:: d_step { forge_contribution(1) }
	:: d_step { forge_admission(0) }
	:: d_step { forge_finish(0) }
	:: d_step { forge_ticket(0, AGG, state[0] == OPEN && HASROUND(0) && closedover[0] == 0, aggregator) }
	:: d_step { forge_ticket(0, BOB, LIVE(BOB) && GRANTED(0, BOB), bob) }
	:: d_step { forge_result(0) }
	:: d_step { forge_receipt() }
	:: d_step { pose_as_broker(ALICE) }
	od
}

/* Honest stories from beginning to end, so that nobody mistakes a model in which nothing
   can happen for a safe one. */
#ifdef STORY_ROTATION /* a round opened in epoch 1, closed in epoch 2; an answer that goes on under a lease of epoch 2 */
#define STORY (wentover && continued && !held1 && state[0] == PUBLISHED && result[0] == 1)
#endif
#ifdef STORY_TWO_TENANTS /* both tenants' rounds are published */
#define STORY (state[0] == PUBLISHED && result[0] == 1 && state[1] == PUBLISHED && tenant[1] == 2 && result[1] != 0)
#endif
#ifdef STORY_RESTORED /* an old store is put back, and the round closes again over the same cohort */
#define STORY (state[0] == PUBLISHED && restored == 1 && closedover[0] == 3)
#endif
#ifdef STORY
active proctype Story() {
end:	d_step { STORY -> printf("reached\n"); assert(false) }
}
#endif
