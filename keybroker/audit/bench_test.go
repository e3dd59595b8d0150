package audit

import "testing"

// BenchmarkAppend measures durable records with 64 writers that share commits.
func BenchmarkAppend(b *testing.B) {
	l := openLog(b, b.TempDir(), newSigner(b), Options{})
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := l.Append(b.Context(), sample(i)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
