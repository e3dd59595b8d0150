// Package evidencejudge says what evidence from files is worth: it hands the parts to the verifiers
// that the broker uses, and reports what they found as a [Verdict] with every check by name.
//
// It verifies as the broker does, with the vendors' pinned roots and what package evidencefile found in the
// files, at the time that the caller names, and fetches nothing. What the broker could not know, it says: whether
// the evidence is fresh is known only if the caller names the nonce; evidence of other
// systems is not bound to one challenge, and parts beside the primary one are then judged by
// themselves. A waiver of revocation is the caller's, in writing, and stands in the verdict; a list
// that is at hand is checked all the same.
//
// A refused verdict has one failed check with the verifier's reason. Of the others it says only
// that they were not decided: a verifier stops at the first thing that is wrong. The command line
// calls it.
package evidencejudge
