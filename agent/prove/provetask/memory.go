package provetask

import (
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
)

// ReasonMemory means that a proof with these keys needs more memory than a worker may have.
const ReasonMemory refusal.Reason = "proof-memory"

// Memory is what a worker that proves with these keys needs, in bytes, if that is not
// more than limit. Otherwise it is refused: a worker would only die of it.
func Memory(set keyset.Set, limit int64) (int64, error) {
	need, err := set.ProvingMemory()
	if err != nil {
		return 0, err
	}
	if need > limit {
		return 0, refusal.New(ReasonMemory, "a proof with key %s needs %d MiB, but a proving worker gets at most %d MiB: set proofs.memory_mb to at least %[2]d, and the unit's MemoryMax above that",
			set.Record.VerifyingKey, mebibytes(need), limit>>20)
	}
	return need, nil
}

func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
