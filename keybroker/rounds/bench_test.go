package rounds

import (
	"fmt"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// BenchmarkAdmission is a whole cohort that is admitted one by one, as contributions come, and
// closed over, for each contribution: with the verification of its signatures, without making it.
func BenchmarkAdmission(b *testing.B) {
	for _, cohort := range []int{64, 256, 1024} {
		b.Run(fmt.Sprint(cohort), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				m := newMachine(b)
				s := m.service(b, bolted(b), nil)
				r, signed := opened(b, s, func(spec *Spec) { spec.Minimum, spec.Maximum, spec.Duration = 2, 1024, 10*time.Minute })
				raw := make([][]byte, cohort)
				for i := range raw {
					raw[i] = contribute(b, m.guest(b, nil), r, signed, nil)
				}
				b.StartTimer()
				var members []digest.Digest
				for i := range raw {
					list, err := s.Admit(b.Context(), r.ID, raw[i:i+1])
					if err != nil || list[0].Reason != "" {
						b.Fatalf("%+v, %v", list, err)
					}
					members = append(members, list[0].Contribution)
				}
				if _, err := s.Close(b.Context(), r.ID, Closing{Cohort: members}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(cohort), "ns/contribution")
		})
	}
}
