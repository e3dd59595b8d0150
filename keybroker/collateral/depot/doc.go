// Package depot keeps a verifier supplied: it has the certificates, revocation lists and TCB
// information at hand, fetches what is missing, and renews what ages.
//
// A [Depot] guarantees that nothing is stored, imported or returned which the vendor's pinned root
// did not sign for the key under which it is kept ([appraise.Verifier] for AMD, a
// [collateral.TDXCheck] for Intel), that nothing older replaces anything newer, and that the last
// good document stays when a source fails, lies or rolls back. It trusts the clock that it is given
// and its directory. It refuses documents that have ended, unless a dated [Grace] is in force.
//
// Every key is fetched once at a time, however many wait for it; who gives up waiting does not
// stop the others. [Depot.Run] renews lists and TCB information at half of their life, and at the
// latest after [Options.MaxAge]. Guests can make a depot ask for certificates of chips that do not
// exist: that costs places in the bounded queue of package fetch, behind which lists never wait,
// and is remembered for a few minutes.
//
// The broker and "anchorhold collateral" call it, also on one directory at the same time.
package depot
