package prove

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// TestProofsGoOnThroughARotationOfAClassifier, made for the test or converted from ONNX: proofs and receipts of the version before
// verify after the switch, those of the next one do, and an answer that was not proven in
// time waits for its version.
func TestProofsGoOnThroughARotationOfAClassifier(t *testing.T) {
	for name, seal := range map[string]func(testing.TB, string, uint64) *classifytest.Sealed{"made": classifytest.Seal, "from ONNX": classifytest.SealONNX} {
		t.Run(name, func(t *testing.T) {
			if name != "made" {
				longtest.Run(t, "it proves three answers of one more classifier")
			}
			proveThroughARotation(t, newWorldOf(t, seal(t, "tiny", 1)))
		})
	}
}

func proveThroughARotation(t *testing.T, w *world) {
	g := w.start(t, All, nil)
	adopt := func(version uint64) {
		t.Helper()
		key := classify.Key{Secret: w.model.Key(t), Version: version, Subject: w.model.Model.ID(), Next: true}
		if list := w.classes.Adopt([]settings.Classifier{w.model.Classifier}, map[string]classify.Key{w.model.Resource: key}); len(list) != 0 {
			t.Fatal(list)
		}
	}
	first, before := w.model, g.answer(t, 5)
	g.done(t, before)
	late := w.classify(t)

	w.model = first.Next(t, 2)
	w.agent.Grant(t, w.model.Model.ID()) // the next lease
	adopt(2)
	after := g.answer(t, 5)
	g.done(t, after)
	g.proven(t, 5, after)
	next := w.model
	w.model = first
	g.proven(t, 5, before)
	old, err := g.Bundle(5, before)
	if err != nil {
		t.Fatal(err)
	}
	new, err := g.Bundle(5, after)
	if err != nil {
		t.Fatal(err)
	}
	if old.Receipt.Body.ModelID != first.Model.ID() || new.Receipt.Body.ModelID != next.Model.ID() || old.Proof.Key != new.Proof.Key {
		t.Errorf("models %x and %x, keys %s and %s", old.Receipt.Body.ModelID, new.Receipt.Body.ModelID, old.Proof.Key, new.Proof.Key)
	}

	g.Take(5, late)
	if info := g.job(t, idOf(late)); info.State != jobs.Queued || info.Reason != classify.ReasonUnavailable {
		t.Fatalf("%+v", info)
	}
	adopt(1)
	poll(t, func() bool { return g.job(t, idOf(late)).State == jobs.Done })
	g.proven(t, 5, idOf(late))
}
